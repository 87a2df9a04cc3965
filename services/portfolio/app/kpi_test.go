package app_test

import (
	"strings"
	"testing"
	"time"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

func TestTheKpiOfANewAccountSayWhyTheyAreUnavailable(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read")
	resp, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{TimeZone: "Asia/Tokyo"})
	k := resp.GetKpi()
	if err != nil || k.GetValue() != "2736.79500000" || k.GetNetWorth() != k.GetValue() || !k.GetComplete() ||
		len(k.GetChanges()) != 7 || k.GetHoldingCount() != 1 || k.GetWalletCount().GetValue() != "2" {
		t.Fatal(k, err)
	}
	for i, c := range k.GetChanges() {
		if c.GetPeriod() != portfoliov1.Period(i+1) || c.GetGross().GetUnavailableReason() != "NO_SNAPSHOTS" ||
			c.GetGross().GetValue() != "" || c.GetNetRatio().GetUnavailableReason() != "NO_SNAPSHOTS" {
			t.Errorf("change %d: %v", i, c)
		}
	}
	if k.GetHighest().GetValue().GetUnavailableReason() != "NO_SNAPSHOTS" ||
		k.GetBest().GetUnavailableReason() != "NO_SNAPSHOTS" || k.GetOldestPrice().GetTime() == nil ||
		k.GetOldestBalance().GetAge().AsDuration() > time.Minute {
		t.Error(k)
	}
	_, err = s.GetKpi(ctx, &portfoliov1.GetKpiRequest{TimeZone: "CEST"})
	servicetest.WantViolation(t, err, "time_zone")
}

func TestTheKpiFollowTheSnapshots(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	s.snapshot(ctx, t, "1000")
	s.exec(t, `UPDATE snapshots SET bucket = bucket - interval '25 hours'`)
	s.exec(t, `UPDATE position_changes SET bucket = bucket - interval '25 hours'`)
	s.exec(t, `UPDATE hour_prices SET bucket = bucket - interval '25 hours'`)
	s.wallet.setPrice("1250")
	resp, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{})
	if err != nil {
		t.Fatal(err)
	}
	k := resp.GetKpi()
	day, all := k.GetChanges()[0], k.GetChanges()[6]
	if day.GetGross().GetValue() != "375.00000000" || day.GetGrossRatio().GetValue() != "0.250000000000" ||
		day.GetNetRatio().GetValue() != "0.250000000000" || !strings.HasPrefix(day.GetNetFlow().GetValue(), "0") ||
		all.GetNet().GetValue() != "375.00000000" {
		t.Errorf("%v\n%v", day, all)
	}
	if k.GetBest().GetPriceChangeRatio() != "0.250000000000" || k.GetBest().GetSymbol() != "ETH" ||
		k.GetHighest().GetValue().GetValue() != k.GetValue() ||
		k.GetHighest().GetDrawdown().GetValue() != "0.000000000000" {
		t.Error(k)
	}
	// While the wallet service is away they are those of the last snapshot, and say so.
	s.wallet.setUnavailable(true)
	s.wallet.setPrice("2000")
	var stale *portfoliov1.Kpi
	for deadline := time.Now().Add(time.Minute); !stale.GetStale(); { // until the cached value has expired
		if resp, err = s.GetKpi(ctx, &portfoliov1.GetKpiRequest{}); err != nil || time.Now().After(deadline) {
			t.Fatal(resp, err)
		}
		stale = resp.GetKpi()
	}
	if stale.GetValue() != "1500.00000000" || stale.GetWalletCount().GetUnavailableReason() != "WALLET_UNAVAILABLE" ||
		stale.GetOldestBalance().GetUnavailableReason() != "WALLET_UNAVAILABLE" ||
		!stale.GetChanges()[6].GetEndTime().AsTime().Before(time.Now().Add(-24*time.Hour)) {
		t.Error(stale)
	}
}
