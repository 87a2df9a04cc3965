package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// fakeStore is a store: the total of each hour by Unix time, with a ~ before an
// incomplete one.
type fakeStore struct {
	snapshot.Store
	hours   map[int64]string
	batches []int // how many hours each call stored
	err     error
}

func (d *fakeStore) MissingHours(_ context.Context, _ uuid.UUID, first, until time.Time,
	limit int) (missing []time.Time,
	err error) {
	for h := first; h.Before(until) && len(missing) < limit; h = h.Add(time.Hour) {
		if total, ok := d.hours[h.Unix()]; !ok || strings.HasPrefix(total, "~") {
			missing = append(missing, h)
		}
	}
	return missing, nil
}

func (d *fakeStore) AdoptPrices(context.Context, []valuation.Assets) error { return nil }
func (d *fakeStore) MendPrices(context.Context, []valuation.Assets) error  { return nil }

func (d *fakeStore) SaveBackfilled(_ context.Context, _ portfolio.Portfolio,
	hours []valuation.Valuation) (stored []snapshot.Snapshot, err error) {
	if d.err != nil {
		return nil, d.err
	}
	d.batches = append(d.batches, len(hours))
	for _, v := range hours {
		total := v.Total.Text('f')
		if !v.Complete() {
			total = "~" + total
		}
		previous, ok := d.hours[v.ValuationTime.Unix()]
		if !ok || strings.HasPrefix(previous, "~") && v.Complete() {
			d.hours[v.ValuationTime.Unix()] = total
			stored = append(stored, snapshot.Snapshot{Bucket: v.ValuationTime, SnapshotTime: v.ValuationTime,
				Total: v.Total, Complete: v.Complete()})
		}
	}
	return stored, nil
}

// fakeHistory is a history: at returns what an hour had. The read ends before an hour
// for which stop returns true, with its error or, as for want of time, without one.
type fakeHistory struct {
	at   func(time.Time) snapshot.HourHoldings
	stop func(time.Time) (error, bool)
	read []time.Time
}

func (p *fakeHistory) ReadHours(_ context.Context, _ uuid.UUID, first, last time.Time,
	visit func(snapshot.HourHoldings) error) (time.Time, error) {
	for h := first; !h.After(last); h = h.Add(time.Hour) {
		if p.stop != nil {
			if err, stop := p.stop(h); stop {
				return h, err
			}
		}
		p.read = append(p.read, h)
		if err := visit(p.at(h)); err != nil {
			return h, err
		}
	}
	return last.Add(time.Hour), nil
}

func day(n int) time.Time { return time.Date(2026, 2, n, 0, 0, 0, 0, time.UTC) }

// rising is worth as many dollars as hours have passed since the first of February.
func rising(h time.Time) snapshot.HourHoldings {
	n := max(0, int64(h.Sub(day(1))/time.Hour))
	return snapshot.HourHoldings{
		Time: h, Wallets: []valuation.Wallet{{Account: "w", Synced: true, SyncTime: h}},
		Holdings: []valuation.Holding{{TokenID: "t", Symbol: "T", Verified: true, Amount: big.NewInt(n),
			Price: valuation.Price{Amount: "1"}}},
	}
}

func backfill(t *testing.T, d *fakeStore, p *fakeHistory, start, end time.Time) (snapshot.BackfillProgress, error) {
	t.Helper()
	return snapshot.NewService(d, fakeHoldings{}, p, slog.New(slog.DiscardHandler), at).Backfill(t.Context(),
		portfolio.Portfolio{ID: uuid.New()}, start, end)
}

func TestARangeHasToFollowTheRules(t *testing.T) {
	now, minHourAge := at(), 15*time.Minute
	for _, tc := range []struct {
		name, field string
		start, end  time.Time
		hours       int
		late        time.Duration // that it is then
	}{
		{"no end", "end_time", day(1), time.Time{}, 0, 0},
		{"no start", "start_time", time.Time{}, day(1), 0, 0},
		{"an end before the start", "start_time", day(2), day(1), 0, 0},
		{"nothing between them", "start_time", day(1), day(1), 0, 0},
		{"an end in the future", "end_time", day(1), now.Add(2 * time.Minute), 0, 0},
		{"over five years", "start_time", now.AddDate(-5, 0, 0).Add(-time.Nanosecond), now, 0, 0},
		{"five years", "", now.AddDate(-5, 0, 0), now, 5*365*24 + 24, minHourAge},
		{"a day", "", day(1), day(2), 24, 0},
		{"a day that begins and ends within an hour", "", day(1).Add(time.Nanosecond), day(2).Add(time.Nanosecond), 24,
			0},
		{"no hour begins in it", "", day(1).Add(time.Minute), day(1).Add(time.Hour), 0, 0},
		{"hours are UTC's", "", day(1).In(time.FixedZone("", 12345)),
			day(1).Add(time.Hour).In(time.FixedZone("", -1234)), 1, 0},
		{"the current hour, in its first quarter", "", now.Truncate(time.Hour), now, 0, 0},
		{"and a quarter of an hour after it began", "", now.Add(-2 * time.Hour), now.Add(14 * time.Minute), 1,
			14 * time.Minute},
		{"and later", "", now.Add(-2 * time.Hour), now.Add(14 * time.Minute), 2, 14*time.Minute + 1},
		{"a clock that is a little ahead, without the hour to come", "", now.Add(58 * time.Minute),
			now.Add(59*time.Minute + 30*time.Second), 0, 58*time.Minute + 45*time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &fakeHistory{at: rising}
			service := snapshot.NewService(&fakeStore{hours: map[int64]string{}}, fakeHoldings{}, p,
				slog.New(slog.DiscardHandler),
				func() time.Time {
					return now.Add(tc.late)
				})
			got, err := service.Backfill(t.Context(), portfolio.Portfolio{}, tc.start, tc.end)
			if tc.field == "" {
				if err != nil || got.Done != tc.hours || got.Remaining != 0 || !got.NextStart.IsZero() ||
					len(p.read) != tc.hours {
					t.Errorf("%+v, %v, %d hours read", got, err, len(p.read))
				}
				return
			}
			e := errs.As(err)
			if e == nil || e.Kind != errs.KindInvalid || e.Violations[0].Field != tc.field ||
				e.Violations[0].Rule == "" || len(p.read) > 0 {
				t.Errorf("%v, %d hours read", err, len(p.read))
			}
		})
	}
}

func TestHoursThatHaveACompleteSnapshotAreNotRead(t *testing.T) {
	d, p := &fakeStore{hours: map[int64]string{}}, &fakeHistory{at: rising}
	for n := range 24 {
		switch n % 3 {
		case 0:
			d.hours[day(2).Add(time.Duration(n)*time.Hour).Unix()] = "kept"
		case 1:
			d.hours[day(2).Add(time.Duration(n)*time.Hour).Unix()] = "~0"
		}
	}
	got, err := backfill(t, d, p, day(2), day(3))
	if err != nil || got.Done != 24 || got.Stored != 16 || got.Incomplete != 0 || got.Remaining != 0 ||
		!got.Newest.Bucket.Equal(day(2).Add(23*time.Hour)) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, h := range p.read {
		if h.Hour()%3 == 0 {
			t.Errorf("%s was read", h)
		}
	}
	if d.hours[day(2).Unix()] != "kept" || d.hours[day(2).Add(time.Hour).Unix()] != "25.00000000" ||
		len(d.batches) != 1 {
		t.Errorf("stored %v in batches of %v", d.hours, d.batches)
	}
	p.read = nil
	if got, err := backfill(t, d, p, day(2), day(3)); err != nil || got.Done != 24 || got.Stored != 0 ||
		got.Newest != nil || len(p.read) > 0 {
		t.Errorf("once more: %+v, %v, read %v", got, err, p.read)
	}
}

// Interrupted anywhere and continued, a backfill stores what an undisturbed one does,
// and every call returns how far it came.
func TestABackfillThatIsInterruptedAndContinuedStoresTheSame(t *testing.T) {
	unavailable := errs.Unavailable("WALLET_UNAVAILABLE", "unavailable")
	rapid.Check(t, func(rt *rapid.T) {
		hours := rapid.IntRange(1, 1200).Draw(rt, "hours")
		start := day(1).Add(-600 * time.Hour)
		end := start.Add(time.Duration(hours) * time.Hour)
		bare := func(h time.Time) snapshot.HourHoldings { // incomplete now and then
			was := rising(h)
			was.Holdings[0].Amount = big.NewInt(h.Unix())
			if h.Unix()/3600%7 == 0 {
				was.Holdings = append(was.Holdings,
					valuation.Holding{TokenID: "u", Symbol: "U", Verified: true, Amount: big.NewInt(1)})
			}
			return was
		}
		existing := map[int64]string{}
		for range rapid.IntRange(0, 40).Draw(rt, "stored before") {
			h := start.Add(time.Duration(rapid.IntRange(0, hours-1).Draw(rt, "hour")) * time.Hour)
			existing[h.Unix()] = rapid.SampledFrom([]string{"1", "~1"}).Draw(rt, "as")
		}
		undisturbed := &fakeStore{hours: maps.Clone(existing)}
		if got, err := backfill(t, undisturbed, &fakeHistory{at: bare}, start, end); err != nil || got.Remaining != 0 {
			rt.Fatal(got, err)
		}
		d, stored := &fakeStore{hours: maps.Clone(existing)}, 0
		for next := start; !next.IsZero(); {
			left := rapid.IntRange(0, 400).Draw(rt, "hours until the cut")
			cut := rapid.SampledFrom([]error{unavailable, nil, nil}).Draw(rt, "cut")
			d.err = rapid.SampledFrom([]error{nil, nil, nil, errors.New("the database is unavailable")}).Draw(rt,
				"store")
			p := &fakeHistory{at: bare, stop: func(time.Time) (error, bool) { left--; return cut, left < 0 }}
			before := maps.Clone(d.hours)
			got, err := backfill(t, d, p, next, end)
			d.err = nil
			if err != nil {
				if !maps.Equal(before, d.hours) {
					rt.Fatalf("%v from a call that stored something", err)
				}
				continue
			}
			stored += got.Stored
			if total := int(end.Sub(next) / time.Hour); got.Done+got.Remaining != total ||
				(got.Remaining == 0) != got.NextStart.IsZero() ||
				got.Remaining > 0 && !got.NextStart.Equal(next.Add(time.Duration(got.Done)*time.Hour)) {
				rt.Fatalf("%+v of %d hours from %s", got, total, next)
			}
			next = got.NextStart
		}
		if !maps.Equal(d.hours, undisturbed.hours) {
			rt.Fatalf("came to %v, undisturbed to %v", d.hours, undisturbed.hours)
		}
		if len(d.hours) != hours {
			rt.Fatalf("%d of %d hours have a snapshot", len(d.hours), hours)
		}
	})
}

func TestAnHourOfWhichNothingIsKnownIsNotStoredAsZero(t *testing.T) {
	failed := valuation.Wallet{Account: "f", SyncFailed: true, SyncError: "no state of that block"}
	synced := valuation.Wallet{Account: "s", Synced: true}
	none := valuation.Holding{TokenID: "u", Symbol: "U", Verified: true, Amount: big.NewInt(1),
		Price: valuation.Price{UnpricedReason: "NO_PRICE"}}
	stale := valuation.Holding{TokenID: "t", Symbol: "T", Verified: true, Amount: big.NewInt(1),
		Price: valuation.Price{Amount: "3", Stale: true}}
	for _, tc := range []struct {
		name   string
		hour   snapshot.HourHoldings
		stored string
		reason string
	}{
		{"nothing was held, and all of it seen", snapshot.HourHoldings{Wallets: []valuation.Wallet{synced, synced}},
			"0", ""},
		{"no wallets", snapshot.HourHoldings{}, "", ""},
		{"all wallets failed", snapshot.HourHoldings{Wallets: []valuation.Wallet{failed}}, "", "CHAIN_UNAVAILABLE"},
		{"one failed and the other held nothing", snapshot.HourHoldings{Wallets: []valuation.Wallet{synced, failed}},
			"",
			"CHAIN_UNAVAILABLE"},
		{"one failed", snapshot.HourHoldings{Wallets: []valuation.Wallet{synced, failed},
			Holdings: []valuation.Holding{stale}}, "~3.00000000", ""},
		{"no price", snapshot.HourHoldings{Wallets: []valuation.Wallet{synced}, Holdings: []valuation.Holding{none}},
			"",
			"PRICES_UNAVAILABLE"},
		{"one price missing", snapshot.HourHoldings{Wallets: []valuation.Wallet{synced},
			Holdings: []valuation.Holding{stale, none}}, "~3.00000000", ""},
		{"a stale price", snapshot.HourHoldings{Wallets: []valuation.Wallet{synced},
			Holdings: []valuation.Holding{stale}},
			"~3.00000000", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &fakeStore{hours: map[int64]string{}}
			bad := day(1).Add(3 * time.Hour)
			p := &fakeHistory{at: func(h time.Time) snapshot.HourHoldings {
				if !h.Equal(bad) {
					return rising(h)
				}
				tc.hour.Time = h
				return tc.hour
			}}
			got, err := backfill(t, d, p, day(1).Add(time.Hour), day(1).Add(6*time.Hour))
			if d.hours[bad.Unix()] != tc.stored {
				t.Errorf("stored %q", d.hours[bad.Unix()])
			}
			if tc.reason == "" {
				if err != nil || got.Done != 5 || len(d.hours) < 4 {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			// The call that stored the hours before it returns its progress, and the next
			// one the error.
			if err != nil || !got.NextStart.Equal(bad) || got.Stored != 2 {
				t.Errorf("%+v, %v", got, err)
			}
			_, err = backfill(t, d, p, got.NextStart, day(1).Add(6*time.Hour))
			if e := errs.As(err); e == nil || e.Kind != errs.KindUnavailable || e.Reason != tc.reason ||
				!strings.Contains(e.Message, "2026-02-01T03:00:00Z") {
				t.Errorf("answered %v", err)
			}
			if got, err := backfill(t, d, p, bad.Add(time.Hour), day(1).Add(6*time.Hour)); err != nil ||
				got.Stored != 2 {
				t.Errorf("after it: %+v, %v", got, err)
			}
		})
	}
}

func TestTheSizeOfABatchIsLimited(t *testing.T) {
	d := &fakeStore{hours: map[int64]string{}}
	wide := func(h time.Time) snapshot.HourHoldings {
		was := rising(h)
		for i := range 2999 {
			was.Holdings = append(was.Holdings,
				valuation.Holding{TokenID: fmt.Sprint(i), Amount: big.NewInt(1), Price: valuation.Price{Amount: "1"}})
		}
		return was
	}
	if got, err := backfill(t, d, &fakeHistory{at: wide}, day(1), day(1).Add(10*time.Hour)); err != nil ||
		got.Stored != 10 ||
		!slices.Equal(d.batches, []int{4, 4, 2}) {
		t.Errorf("%+v, %v, in batches of %v", got, err, d.batches)
	}
	d.batches = nil
	if got, err := backfill(t, d, &fakeHistory{at: rising}, day(-60), day(-60).Add(1100*time.Hour)); err != nil ||
		got.Stored != 1100 || slices.Max(d.batches) != 500 {
		t.Errorf("%+v, %v, in batches of %v", got, err, d.batches)
	}
}

// slowHistory reads one hour and then waits until its context is done.
type slowHistory struct{ limits []time.Duration }

func (p *slowHistory) ReadHours(ctx context.Context, _ uuid.UUID, first, _ time.Time,
	visit func(snapshot.HourHoldings) error) (time.Time, error) {
	end, _ := ctx.Deadline()
	p.limits = append(p.limits, time.Until(end))
	if err := visit(rising(first)); err != nil {
		return first, err
	}
	<-ctx.Done()
	return first.Add(time.Hour), nil
}

func TestACallEndsWithinAFewSecondsAndTheCallersTime(t *testing.T) {
	for _, tc := range []struct{ given, takes time.Duration }{{0, 6 * time.Second}, {time.Minute, 6 * time.Second},
		{2 * time.Second, 1500 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if tc.given > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.given)
				defer cancel()
			}
			d, begun := &fakeStore{hours: map[int64]string{}}, time.Now()
			s := snapshot.NewService(d, fakeHoldings{}, &slowHistory{}, slog.New(slog.DiscardHandler), at)
			got, err := s.Backfill(ctx, portfolio.Portfolio{}, day(1), day(2))
			if took := time.Since(begun); err != nil || took != tc.takes || got.Stored != 1 || got.Remaining != 23 ||
				!got.NextStart.Equal(day(1).Add(time.Hour)) {
				t.Errorf("given %s: %+v, %v, took %s", tc.given, got, err, took)
			}
		})
	}
}

func TestACallThatIsCutShortSaysWhyInTheLog(t *testing.T) {
	var log bytes.Buffer
	d := &fakeStore{hours: map[int64]string{}}
	p := &fakeHistory{at: rising, stop: func(h time.Time) (error, bool) {
		return errs.Unavailable("WALLET_UNAVAILABLE", "unavailable"), h.Hour() == 7
	}}
	s := snapshot.NewService(d, fakeHoldings{}, p, slog.New(slog.NewTextHandler(&log, nil)), at)
	got, err := s.Backfill(t.Context(), portfolio.Portfolio{}, day(1), day(2))
	if err != nil || got.Done != 7 || !strings.Contains(log.String(), `msg="backfill cut short"`) ||
		!strings.Contains(log.String(), "WALLET_UNAVAILABLE") {
		t.Errorf("%+v, %v, logged %s", got, err, &log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p.stop = func(h time.Time) (error, bool) { cancel(); return ctx.Err(), h.Hour() == 9 }
	if _, err := s.Backfill(ctx, portfolio.Portfolio{}, day(1), day(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled call is answered %v", err)
	}
}
