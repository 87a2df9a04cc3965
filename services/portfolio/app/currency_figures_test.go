package app_test

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// rational returns a decimal as a fraction.
func rational(t *testing.T, text string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is no decimal", text)
	}
	return r
}

// forget has the wallet service away, and the rates of EUR of the hours from a time on not stored.
func (s service) forget(t *testing.T, from, until time.Time) {
	t.Helper()
	s.wallet.rates.unavailable.Store(true)
	s.exec(t, fmt.Sprintf("DELETE FROM currency_rates WHERE currency = 'EUR' AND bucket >= to_timestamp(%d) "+
		"AND bucket < to_timestamp(%d)", from.Unix(), until.Unix()))
}

func TestAnAllocationAddsUpInAnyCurrency(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.withTwoWallets()
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	s.snapshot(ctx, t, "1000")
	rate := rateOfHour(time.Now())
	for _, dimension := range []portfoliov1.AllocationDimension{1, 2, 3, 4} {
		for _, entries := range []int32{0, 1} {
			resp, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{Dimension: dimension,
				MaxEntries: entries, Currency: "EUR"})
			a := resp.GetAllocation()
			if err != nil || a.GetCurrency() != "EUR" {
				t.Fatal(a, err)
			}
			allocationLines(t, a) // which checks that it adds up
			byWallet := dimension == portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_WALLET
			off := new(big.Rat).Sub(rational(t, a.GetTotal()), rational(t, inCurrency(t, "2250", rate)))
			if !byWallet && off.Sign() != 0 || off.Abs(off).Cmp(big.NewRat(3, 100_000_000)) > 0 {
				t.Errorf("by %v the total is %s at %s", dimension, a.GetTotal(), rate)
			}
		}
	}
	past, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{AsOfTime: timestamppb.Now(), Currency: "EUR"})
	if err != nil || past.GetAllocation().GetTotal() != inCurrency(t, "2250", rate) {
		t.Errorf("%v, %v", past, err)
	}
	stale, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{Currency: "JPY"})
	if err != nil || stale.GetAllocation().GetComplete() ||
		!strings.Contains(fmt.Sprint(stale.GetAllocation().GetIncompleteReasons()), "JPY is stale") {
		t.Errorf("at a stale rate %v, %v", stale, err)
	}
	_, err = s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{Currency: "GBP"})
	servicetest.WantError(t, err, errs.KindUnavailable, "RATE_UNAVAILABLE")
	_, err = s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{Currency: "SEK"})
	servicetest.WantViolation(t, err, "currency")
	_, err = s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{Currency: "eur"})
	servicetest.WantViolation(t, err, "currency")
}

// Each point is converted at the rate of its own hour; where there is none it says so, and has no numbers.
func TestAnAllocationOverTimeIsInAnyCurrency(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	until := time.Now().UTC().Truncate(24 * time.Hour)
	from := until.AddDate(0, 0, -4)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	read := func(code string) *portfoliov1.GetAllocationHistoryResponse {
		t.Helper()
		resp, err := s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(until), MaxEntries: 1, Currency: code})
		if err != nil || len(resp.GetPoints()) != 4 {
			t.Fatal(resp, err)
		}
		return resp
	}
	usd := read("")
	check := func(eur *portfoliov1.GetAllocationHistoryResponse, unavailable int) {
		t.Helper()
		for i, p := range eur.GetPoints() {
			sum := new(big.Rat)
			for _, series := range eur.GetSeries() {
				if i < unavailable {
					if series.GetValues()[i] != "" || series.GetShares()[i] != "" {
						t.Errorf("point %d has %v without a rate", i, series)
					}
					continue
				}
				sum.Add(sum, rational(t, series.GetValues()[i]))
			}
			if i < unavailable {
				if p.GetTotal() != "" || p.GetComplete() || p.GetUnavailableReason() != "RATE_UNAVAILABLE" {
					t.Errorf("without a rate point %d is %v", i, p)
				}
				continue
			}
			want := inCurrency(t, usd.GetPoints()[i].GetTotal(), rateOfHour(p.GetSnapshotTime().AsTime()))
			if p.GetTotal() != want || sum.FloatString(8) != want || p.GetUnavailableReason() != "" {
				t.Errorf("point %d is %v, want %s; its values sum to %s", i, p, want, sum.FloatString(8))
			}
		}
	}
	check(read("EUR"), 0)
	s.forget(t, from, from.AddDate(0, 0, 2))
	check(read("EUR"), 2)
}

// kpi returns the figures and the snapshots that they are of, oldest first, without those in price gaps.
func (s service) kpi(ctx context.Context, t *testing.T, code string) (*portfoliov1.Kpi, []*portfoliov1.Snapshot) {
	t.Helper()
	resp, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{Currency: code})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	var counted []*portfoliov1.Snapshot
	for _, snap := range list.GetSnapshots() {
		if !snap.GetPriceGap() {
			counted = append([]*portfoliov1.Snapshot{snap}, counted...)
		}
	}
	return resp.GetKpi(), counted
}

func TestTheKpiAreInAnyCurrency(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	from, until := pastHours(40)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	usd, snapshots := s.kpi(ctx, t, "")
	eur, _ := s.kpi(ctx, t, "EUR")
	now := rateOfHour(time.Now())
	if eur.GetCurrency() != "EUR" || eur.GetValue() != inCurrency(t, usd.GetValue(), now) ||
		eur.GetNetWorth() != eur.GetValue() {
		t.Fatalf("%v of %v at %s", eur, usd, now)
	}
	at := map[int64]*portfoliov1.Snapshot{}
	highest := rational(t, eur.GetValue())
	for _, snap := range snapshots {
		at[snap.GetBucketTime().GetSeconds()] = snap
		inEUR := rational(t, inCurrency(t, snap.GetTotal(), rateOfHour(snap.GetBucketTime().AsTime())))
		if inEUR.Cmp(highest) > 0 {
			highest = inEUR
		}
	}
	if got := eur.GetHighest().GetValue().GetValue(); got != highest.FloatString(8) {
		t.Errorf("the highest is %s, want %s", got, highest.FloatString(8))
	}
	fall := new(big.Rat).Quo(new(big.Rat).Sub(rational(t, eur.GetValue()), highest), highest)
	if got := eur.GetHighest().GetDrawdown().GetValue(); got != fall.FloatString(12) {
		t.Errorf("the drawdown is %s, want %s", got, fall.FloatString(12))
	}
	for _, i := range []int{0, 6} { // of a day, and of all
		c, of := eur.GetChanges()[i], usd.GetChanges()[i]
		base := at[c.GetSnapshotTime().GetSeconds()]
		start := inCurrency(t, base.GetTotal(), rateOfHour(base.GetBucketTime().AsTime()))
		gross := new(big.Rat).Sub(rational(t, eur.GetValue()), rational(t, start))
		flow, dollars := new(big.Rat), rational(t, of.GetNetFlow().GetValue()) // of now, in the end
		for _, snap := range snapshots {
			if snap.GetBucketTime().GetSeconds() > base.GetBucketTime().GetSeconds() && snap.GetNetFlow() != "" {
				dollars.Sub(dollars, rational(t, snap.GetNetFlow()))
				at := rateOfHour(snap.GetBucketTime().AsTime())
				flow.Add(flow, rational(t, inCurrency(t, snap.GetNetFlow(), at)))
			}
		}
		flow.Add(flow, rational(t, inCurrency(t, dollars.FloatString(8), now)))
		net := new(big.Rat).Sub(gross, flow)
		if c.GetStartValue().GetValue() != start || c.GetGross().GetValue() != gross.FloatString(8) ||
			c.GetNetFlow().GetValue() != flow.FloatString(8) || c.GetNet().GetValue() != net.FloatString(8) ||
			c.GetNetRatio().GetUnavailableReason() != "" {
			t.Errorf("change %d is %v, want from %s, gross %s, flow %s", i, c, start, gross.FloatString(8),
				flow.FloatString(8))
		}
	}
	_, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{Currency: "GBP"})
	servicetest.WantError(t, err, errs.KindUnavailable, "RATE_UNAVAILABLE")
	_, err = s.GetKpi(ctx, &portfoliov1.GetKpiRequest{Currency: "SEK"})
	servicetest.WantViolation(t, err, "currency")
}

// What rests on an hour without a rate says so and has no number; what doesn't is as before.
func TestAKpiOfAnHourWithoutARateIsUnavailable(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	from, until := pastHours(40)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	before, _ := s.kpi(ctx, t, "EUR")
	s.exec(t, fmt.Sprintf(`UPDATE currency_rates SET rate = NULL, reason = 'NO_PRICE'
		WHERE currency = 'EUR' AND bucket < to_timestamp(%d)`, until.Add(-30*time.Hour).Unix()))
	k, _ := s.kpi(ctx, t, "EUR")
	all := k.GetChanges()[6]
	for name, f := range map[string]*portfoliov1.Figure{"start": all.GetStartValue(), "gross": all.GetGross(),
		"ratio": all.GetGrossRatio(), "flow": all.GetNetFlow(), "net": all.GetNet(), "rate": all.GetNetRatio(),
		"highest": k.GetHighest().GetValue(), "drawdown": k.GetHighest().GetDrawdown()} {
		if f.GetValue() != "" || f.GetUnavailableReason() != "RATE_UNAVAILABLE" {
			t.Errorf("%s is %v", name, f)
		}
	}
	day, control := k.GetChanges()[0], before.GetChanges()[0]
	if day.GetStartValue().GetValue() == "" || day.GetNetRatio().GetValue() == "" ||
		day.GetStartValue().GetValue() != control.GetStartValue().GetValue() {
		t.Errorf("the day is %v, was %v", day, control)
	}
}

// Listed and exported hours are the valuations of their times, and the positions of each add up to its total.
func TestSnapshotsAreListedAndExportedInAnyCurrency(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	from, until := pastHours(20)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	usd, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500})
	if err != nil || len(usd.GetSnapshots()) != 20 {
		t.Fatal(usd, err)
	}
	want := func(i int, value string) string { // of snapshot i, the newest first
		if value == "" {
			return ""
		}
		return inCurrency(t, value, rateOfHour(usd.GetSnapshots()[i].GetBucketTime().AsTime()))
	}
	list := func() (all []*portfoliov1.Snapshot) {
		t.Helper()
		for token := ""; ; {
			resp, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 7, PageToken: token,
				Currency: "EUR"})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, resp.GetSnapshots()...)
			if token = resp.GetNextPageToken(); token == "" {
				return all
			}
		}
	}
	export := func(c portfoliov1.ExportContent, f portfoliov1.ExportFormat) []byte {
		t.Helper()
		file, _, err := s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Content: c, Format: f, Currency: "EUR",
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	const hours, positions = portfoliov1.ExportContent_EXPORT_CONTENT_HOURS,
		portfoliov1.ExportContent_EXPORT_CONTENT_POSITIONS
	check := func(unavailable int) { // how many of the oldest have no rate
		t.Helper()
		all, rows := list(), table(t, export(hours, portfoliov1.ExportFormat_EXPORT_FORMAT_CSV), ',')
		sums := map[string]*big.Rat{}
		for _, row := range table(t, export(positions, portfoliov1.ExportFormat_EXPORT_FORMAT_CSV), ',') {
			if row["value"] != "" {
				if sums[row["hour_time"]] == nil {
					sums[row["hour_time"]] = new(big.Rat)
				}
				sums[row["hour_time"]].Add(sums[row["hour_time"]], rational(t, row["value"]))
			}
			if row["currency"] != "EUR" || (row["rate"] == "") != (row["unavailable_reason"] == "RATE_UNAVAILABLE") ||
				row["rate"] == "" && row["price"] != "" {
				t.Errorf("a row is %v", row)
			}
		}
		for i, snap := range all {
			row := rows[len(rows)-1-i]
			of, reason := usd.GetSnapshots()[i], ""
			total, flow := want(i, of.GetTotal()), want(i, of.GetNetFlow())
			if i >= len(all)-unavailable {
				total, flow, reason = "", "", "RATE_UNAVAILABLE"
			}
			if snap.GetCurrency() != "EUR" || snap.GetTotal() != total || snap.GetNetFlow() != flow ||
				snap.GetUnavailableReason() != reason || snap.GetComplete() && reason != "" {
				t.Errorf("snapshot %d is %v, want %s, %s", i, snap, total, flow)
			}
			if row["total"] != total || row["net_flow"] != flow || row["unavailable_reason"] != reason ||
				row["currency"] != "EUR" {
				t.Errorf("row %d is %v, want %s, %s", i, row, total, flow)
			}
			sum := sums[row["hour_time"]]
			if (sum == nil) != (reason != "") || sum != nil && sum.FloatString(8) != total {
				t.Errorf("the positions of %s sum to %v, want %s", row["hour_time"], sum, total)
			}
		}
	}
	check(0)
	for format, text := range map[portfoliov1.ExportFormat]string{
		portfoliov1.ExportFormat_EXPORT_FORMAT_JSON_LINES: `"currency":"EUR","total":"` +
			want(19, usd.GetSnapshots()[19].GetTotal()) + `"`,
		portfoliov1.ExportFormat_EXPORT_FORMAT_CSV_SEMICOLON: ";EUR;" +
			strings.Replace(want(19, usd.GetSnapshots()[19].GetTotal()), ".", ",", 1) + ";",
	} {
		if file := export(hours, format); !strings.Contains(string(file), text) {
			t.Errorf("%v has no %s: %.300s", format, text, file)
		}
	}
	said, err := s.command(t.Context(), t, []string{"export", s.portfolioFlag(ctx, t), "--currency=EUR",
		"--start=" + from.Format(time.RFC3339), "--end=" + until.Format(time.RFC3339), t.TempDir() + "/eur.csv"})
	if err != nil || !strings.HasPrefix(said, "20 rows in ") {
		t.Errorf("%q, %v", said, err)
	}
	s.forget(t, from, from.Add(5*time.Hour))
	check(5)
	_, err = s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{Currency: "SEK"})
	servicetest.WantViolation(t, err, "currency")
	_, _, err = s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Currency: "SEK"})
	servicetest.WantViolation(t, err, "currency")
	_, err = s.command(t.Context(), t, []string{"export", s.portfolioFlag(ctx, t), "--currency=SEK", "x.csv"})
	if err == nil || !strings.Contains(err.Error(), "--currency") {
		t.Errorf("the command says %v", err)
	}
}
