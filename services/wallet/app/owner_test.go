package app_test

import (
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

func TestHoldingsOfAnotherOwnerNeedAPermissionOfTheirOwn(t *testing.T) {
	s := start(t)
	ada, eve := s.user(t), s.user(t)
	service := s.may(t, "wallet:read", "wallet:any")
	s.create(ada, t, account)
	s.create(ada, t, accountOf(1))
	owner := servicetest.UserID(ada, t)
	_, err := s.holdings.GetHoldings(eve, &walletv1.GetHoldingsRequest{OwnerId: owner})
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	_, err = s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{OwnerId: "ada"})
	servicetest.WantViolation(t, err, "owner_id")
	own, err := s.holdings.GetHoldings(ada, &walletv1.GetHoldingsRequest{OwnerId: owner})
	if err != nil || len(own.GetWallets()) != 2 {
		t.Error(own, err)
	}
	got, err := s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{OwnerId: owner, PageSize: 1})
	if err != nil || len(got.GetWallets()) != 1 || got.GetNextPageToken() == "" {
		t.Fatal(got, err)
	}
	_, err = s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{PageToken: got.GetNextPageToken()})
	servicetest.WantViolation(t, err, "page_token") // of the service's own wallets
	none, err := s.holdings.GetHoldings(service, &walletv1.GetHoldingsRequest{})
	if err != nil || len(none.GetWallets()) != 0 {
		t.Error(none, err)
	}
}
