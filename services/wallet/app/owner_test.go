package app_test

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

func TestHoldingsOfAnotherOwnerNeedAPermissionOfTheirOwn(t *testing.T) {
	s := start(t)
	ada, eve := s.user(t), s.user(t)
	service := s.may(t, "wallet:read", "wallet:any")
	s.create(ada, t, account)
	s.create(ada, t, accountOf(1))
	md, _ := metadata.FromOutgoingContext(ada)
	var owner authn.Claims
	if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(md.Get("authorization")[0], "Bearer "),
		&owner); err != nil {
		t.Fatal(err)
	}
	_, err := s.holdings.GetHoldings(eve, &walletv1.GetHoldingsRequest{OwnerId: owner.Subject})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	_, err = s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{OwnerId: "ada"})
	violates(t, err, "owner_id")
	own, err := s.holdings.GetHoldings(ada, &walletv1.GetHoldingsRequest{OwnerId: owner.Subject})
	if err != nil || len(own.GetWallets()) != 2 {
		t.Error(own, err)
	}
	got, err := s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{OwnerId: owner.Subject, PageSize: 1})
	if err != nil || len(got.GetWallets()) != 1 || got.GetNextPageToken() == "" {
		t.Fatal(got, err)
	}
	_, err = s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{PageToken: got.GetNextPageToken()})
	violates(t, err, "page_token") // of the service's own wallets
	none, err := s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{})
	if err != nil || len(none.GetWallets()) != 0 {
		t.Error(none, err)
	}
}
