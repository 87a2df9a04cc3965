package app_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// rotki 1.43.2: a range whose query failed was taken for done, so what was missing was never read again.
func TestARangeThatFailedInTheMiddleIsNotTakenForDone(t *testing.T) {
	t.Parallel()
	s := start(t)
	undisturbed, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(48)
	if _, _, err := s.backfill(undisturbed, from, until); err != nil {
		t.Fatal(err)
	}
	want := s.snapshotLines(undisturbed, t)
	middle := from.Add(24 * time.Hour)
	s.wallet.history.mu.Lock()
	s.wallet.history.fail = func(h time.Time) error {
		if h.Equal(middle) {
			return status.Error(codes.Unavailable, "away")
		}
		return nil
	}
	s.wallet.history.mu.Unlock()
	for range 2 {
		resp, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
			EndTime: timestamppb.New(until)})
		next := resp.GetBackfill().GetNextStartTime()
		if err == nil && (next == nil || next.AsTime().After(middle) || resp.GetBackfill().GetRemainingCount() < 24) {
			t.Fatalf("answered %v", resp)
		}
	}
	if _, _, err := s.backfill(ctx, from, until); err == nil {
		t.Fatal("the whole range is answered as done")
	}
	if got := s.snapshotLines(ctx, t); len(got) > 24 || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("stored\n%v\nwant the first of\n%v", got, want)
	}
	s.wallet.history.mu.Lock()
	s.wallet.history.fail = nil
	s.wallet.history.mu.Unlock()
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	if got := s.snapshotLines(ctx, t); len(got) != 48 || !slices.Equal(got, want) {
		t.Errorf("stored\n%v\nwant\n%v", got, want)
	}
}

// A balance that is 0 only while it is refreshed was stored as a value of 0. The hourly job has the same test in
// package snapshot.
func TestARefreshStoresNoZero(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	first, second := ownedWallet{id: uuid.NewString(), amount: "10"}, ownedWallet{id: uuid.NewString(), amount: "5"}
	refreshed := func(w ownedWallet) ownedWallet { w.syncing = true; return w }
	take := func() (*portfoliov1.TakeSnapshotResponse, error) {
		return s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	}
	s.wallet.setOwned(refreshed(first), refreshed(second))
	_, err := take()
	servicetest.WantError(t, err, errs.KindUnavailable, "WALLETS_NOT_SYNCED")
	if got := s.chart(ctx, t, "", time.Now().Add(-time.Hour), time.Now()); got != "" {
		t.Fatalf("stored %s", got)
	}
	s.wallet.setOwned(first, second)
	if resp, err := take(); err != nil || whole(resp.GetSnapshot().GetTotal()) != "30" {
		t.Fatal(resp, err)
	}
	for _, own := range [][]ownedWallet{{refreshed(first), second}, {refreshed(first), refreshed(second)}} {
		s.wallet.setOwned(own...)
		if resp, err := take(); err == nil && whole(resp.GetSnapshot().GetTotal()) != "30" {
			t.Errorf("while it is refreshed: %v", resp)
		}
		if got := s.lastClose(ctx, t); !strings.HasPrefix(got[1], "30.") {
			t.Errorf("the timeline ends with %s", got)
		}
	}
}

// Hours that are taken again, or by several callers at once, count once in every return.
func TestHoursThatAreTakenAgainChangeNoReturn(t *testing.T) {
	t.Parallel()
	s := start(t)
	once, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	again, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(72)
	figures := func(ctx context.Context) *portfoliov1.Performance {
		t.Helper()
		resp, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from),
			EndTime: timestamppb.New(until), GrowthInterval: portfoliov1.Interval_INTERVAL_HOURLY})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetPerformance()
	}
	if _, _, err := s.backfill(once, from, until); err != nil {
		t.Fatal(err)
	}
	want := figures(once)
	if want.GetFlowCount() < 30 || want.GetTimeWeighted().GetPeriod().Value == nil {
		t.Fatal(want)
	}
	take := func() error {
		if _, _, err := s.backfill(again, from, until); err != nil {
			return err
		}
		for next := timestamppb.New(from); next != nil; {
			resp, err := s.RecomputeSnapshots(again, &portfoliov1.RecomputeSnapshotsRequest{StartTime: next,
				EndTime: timestamppb.New(until), All: true})
			if err != nil {
				return err
			}
			next = resp.GetProgress().GetNextStartTime()
		}
		return nil
	}
	for range 3 {
		if err := take(); err != nil {
			t.Fatal(err)
		}
	}
	if got := figures(again); !proto.Equal(got, want) {
		t.Errorf("taken three times:\n%v\nwant\n%v", got, want)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := take(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := figures(again); !proto.Equal(got, want) {
		t.Errorf("taken by four at once:\n%v\nwant\n%v", got, want)
	}
}

// doubles returns how many doubles a message has, at any depth, and notes what is not finite.
func doubles(t *testing.T, m protoreflect.Message) (n int) {
	t.Helper()
	check := func(f protoreflect.FieldDescriptor, v protoreflect.Value) {
		t.Helper()
		switch f.Kind() {
		case protoreflect.MessageKind:
			n += doubles(t, v.Message())
		case protoreflect.DoubleKind:
			if n++; math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
				t.Errorf("%s is %v", f.FullName(), v.Float())
			}
		case protoreflect.StringKind:
			if text := strings.ToLower(v.String()); text == "nan" || strings.HasSuffix(text, "inf") ||
				strings.HasSuffix(text, "infinity") {
				t.Errorf("%s is %q", f.FullName(), v)
			}
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsList() {
			for i := range v.List().Len() {
				check(f, v.List().Get(i))
			}
			return true
		}
		check(f, v)
		return true
	})
	return n
}

// nautilus_trader#4205: figures across currencies were NaN where a rate was missing. No rate and no price makes one
// that is not finite.
func TestNoFigureIsNaNInAnyCurrency(t *testing.T) {
	t.Parallel()
	currencies := []string{"", "EUR", "GBP", "CHF", "JPY", "eip155:137/slip44:966"}
	for state, rate := range map[string]string{"present": "1.25", "missing": "", "stale": "~1.25"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, code := range currencies[1:] {
				s.wallet.rates.tokens.Store(code, rate)
			}
			found := 0
			for _, prices := range [][]string{{"2", "3", "2"}, {"2", "0", "3"}, {"0", "2", "0"}, {"0", "0", "0"}} {
				ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
				id := uuid.NewString()
				var hours [][]ownedWallet
				for _, price := range prices {
					hours = append(hours, []ownedWallet{{id: id, amount: "100", price: price}})
				}
				from, until := pastHours(len(prices))
				s.pastOf(ctx, t, from, hours...)
				for _, code := range currencies {
					for name, call := range s.figuresIn(code, from, until) {
						resp, err := call(ctx)
						noRate := state == "missing" && code != "" && errs.Is(err, errs.KindUnavailable)
						if err != nil && !noRate {
							t.Errorf("%s in %q, prices %v: %v", name, code, prices, err)
						}
						if err == nil {
							found += doubles(t, resp.ProtoReflect())
						}
					}
				}
			}
			if found < 10 { // those in US dollars at least
				t.Errorf("%d figures are not enough", found)
			}
		})
	}
}

// figuresCall makes a call that has figures.
type figuresCall func(context.Context) (proto.Message, error)

// figuresIn are the calls that have figures in a currency.
func (s service) figuresIn(code string, from, until time.Time) map[string]figuresCall {
	start, end := timestamppb.New(from), timestamppb.New(until)
	return map[string]figuresCall{
		"GetValuation": func(ctx context.Context) (proto.Message, error) {
			return s.GetValuation(ctx, &portfoliov1.GetValuationRequest{Currency: code})
		},
		"GetValuation of the past": func(ctx context.Context) (proto.Message, error) {
			return s.GetValuation(ctx, &portfoliov1.GetValuationRequest{Currency: code, AsOfTime: end})
		},
		"GetKpi": func(ctx context.Context) (proto.Message, error) {
			return s.GetKpi(ctx, &portfoliov1.GetKpiRequest{Currency: code})
		},
		"GetPerformance": func(ctx context.Context) (proto.Message, error) {
			return s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{Currency: code, StartTime: start,
				EndTime: end, Benchmark: "eip155:137/slip44:966",
				GrowthInterval: portfoliov1.Interval_INTERVAL_HOURLY})
		},
		"GetTimeline": func(ctx context.Context) (proto.Message, error) {
			return s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{Currency: code, StartTime: start, EndTime: end})
		},
		"ListSnapshots": func(ctx context.Context) (proto.Message, error) {
			return s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{Currency: code})
		},
		"GetAllocation": func(ctx context.Context) (proto.Message, error) {
			return s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{Currency: code})
		},
		"GetAllocationHistory": func(ctx context.Context) (proto.Message, error) {
			return s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{Currency: code,
				StartTime: start, EndTime: end})
		},
	}
}
