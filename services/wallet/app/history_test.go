package app_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// lastHours asks for two hours of the past.
func lastHours(change func(*walletv1.ListHistoricalHoldingsRequest)) *walletv1.ListHistoricalHoldingsRequest {
	until := time.Now().UTC().Truncate(time.Hour)
	r := &walletv1.ListHistoricalHoldingsRequest{StartTime: timestamppb.New(until.Add(-2 * time.Hour)),
		EndTime: timestamppb.New(until)}
	if change != nil {
		change(r)
	}
	return r
}

func TestThePastOfAnotherOwnerNeedsAPermissionOfItsOwn(t *testing.T) {
	s := start(t)
	ada, eve, service := s.user(t), s.user(t), s.may(t, "wallet:read", "wallet:any")
	s.create(ada, t, account) // on a chain without a node
	of := func(owner string) *walletv1.ListHistoricalHoldingsRequest {
		return lastHours(func(r *walletv1.ListHistoricalHoldingsRequest) { r.OwnerId = owner })
	}
	_, err := s.holdings.ListHistoricalHoldings(eve, of(servicetest.UserID(ada, t)))
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	_, err = s.holdings.ListHistoricalHoldings(service, of("ada"))
	servicetest.WantViolation(t, err, "owner_id")
	for who, ask := range map[string]func() (*walletv1.ListHistoricalHoldingsResponse, error){
		"the service": func() (*walletv1.ListHistoricalHoldingsResponse, error) {
			return s.holdings.ListHistoricalHoldings(service, of(servicetest.UserID(ada, t)))
		},
		"ada": func() (*walletv1.ListHistoricalHoldingsResponse, error) {
			return s.holdings.ListHistoricalHoldings(ada, of(""))
		},
	} {
		got, err := ask()
		if err != nil || len(got.GetHours()) != 2 ||
			got.GetHours()[0].GetWallets()[0].GetSync().GetState() != walletv1.SyncState_SYNC_STATE_FAILED {
			t.Errorf("%s: %v, %v", who, got, err)
		}
	}
	for who, ctx := range map[string]context.Context{"eve": eve, "the service": service} {
		got, err := s.holdings.ListHistoricalHoldings(ctx, of(""))
		if err != nil || len(got.GetHours()) != 0 || got.GetNextPageToken() != "" ||
			got.GetOwnerId() != servicetest.UserID(ctx, t) {
			t.Errorf("%s, who has no wallets: %v, %v", who, got, err)
		}
	}
}

func TestThePastOfAChainWhoseNodesFailIsUnavailable(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	s.create(ctx, t, strings.Replace(account, ":1:", ":137:", 1))
	_, err := s.holdings.ListHistoricalHoldings(ctx, lastHours(nil))
	servicetest.WantError(t, err, errs.KindUnavailable, "CHAIN_UNAVAILABLE")
}

func TestBadRequestsForThePastNameTheirField(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	s.create(ctx, t, account)
	good := lastHours(nil)
	from, until := good.GetStartTime().AsTime(), good.GetEndTime().AsTime()
	token := func(cursor map[string]any, parts ...string) string {
		if len(parts) == 0 {
			parts = []string{"ListHistoricalHoldings", servicetest.UserID(ctx, t), servicetest.UserID(ctx, t),
				from.String(), until.String()}
		}
		text, err := page.Token(page.NewQuery(parts...), cursor)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	within := map[string]any{"Hour": from.Unix()}
	for _, tc := range []struct {
		name, field string
		bend        func(r *walletv1.ListHistoricalHoldingsRequest)
	}{
		{"no start", "start_time", func(r *walletv1.ListHistoricalHoldingsRequest) { r.StartTime = nil }},
		{"no end", "end_time", func(r *walletv1.ListHistoricalHoldingsRequest) { r.EndTime = nil }},
		{"a start past any", "start_time", func(
			r *walletv1.ListHistoricalHoldingsRequest) {
			r.StartTime.Seconds = 1 << 62
		}},
		{"an end past any", "end_time", func(r *walletv1.ListHistoricalHoldingsRequest) { r.EndTime.Nanos = -5 }},
		{"a start at the end", "start_time", func(
			r *walletv1.ListHistoricalHoldingsRequest) {
			r.StartTime = r.EndTime
		}},
		{"an end in the future", "end_time", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.EndTime = timestamppb.New(time.Now().Add(time.Minute))
		}},
		{"a page of 10,001", "page_size", func(r *walletv1.ListHistoricalHoldingsRequest) { r.PageSize = 10_001 }},
		{"a page token that is none", "page_token",
			func(r *walletv1.ListHistoricalHoldingsRequest) { r.PageToken = "!" }},
		{"one of GetHoldings", "page_token", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.PageToken = token(within, "GetHoldings", servicetest.UserID(ctx, t), servicetest.UserID(ctx, t))
		}},
		{"one of another range", "page_token", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.PageToken, r.StartTime = token(within), timestamppb.New(from.Add(-time.Hour))
		}},
		{"a made-up hour before the range", "page_token", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.PageToken = token(map[string]any{"Hour": from.Add(-time.Hour).Unix()})
		}},
		{"a made-up hour after it", "page_token", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.PageToken = token(map[string]any{"Hour": int64(1) << 62})
		}},
		{"a made-up hour that is none", "page_token", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.PageToken = token(map[string]any{"Hour": from.Unix() + 1})
		}},
		{"a made-up token of a chain", "page_token", func(r *walletv1.ListHistoricalHoldingsRequest) {
			r.PageToken = token(map[string]any{"Hour": from.Unix(), "Token": "\x00"})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.holdings.ListHistoricalHoldings(ctx, lastHours(tc.bend))
			servicetest.WantViolation(t, err, tc.field)
		})
	}
	// The control: it is the token that was wrong above.
	_, err := s.holdings.ListHistoricalHoldings(ctx,
		lastHours(func(r *walletv1.ListHistoricalHoldingsRequest) { r.PageToken = token(within) }))
	if err != nil {
		t.Error(err)
	}
}
