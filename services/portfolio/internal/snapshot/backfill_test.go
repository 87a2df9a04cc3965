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

// diary is a store: the total of each hour, with a ~ when it is incomplete.
type diary struct {
	snapshot.Store
	hours map[int64]string
	pages []int // how many hours were stored at once
	err   error
}

func (d *diary) Missing(_ context.Context, _ uuid.UUID, first, until time.Time, limit int) (missing []time.Time,
	err error) {
	for h := first; h.Before(until) && len(missing) < limit; h = h.Add(time.Hour) {
		if total, ok := d.hours[h.Unix()]; !ok || strings.HasPrefix(total, "~") {
			missing = append(missing, h)
		}
	}
	return missing, nil
}

func (d *diary) SavePast(_ context.Context, _ portfolio.Portfolio,
	hours []valuation.Valuation) (stored []snapshot.Snapshot, err error) {
	if d.err != nil {
		return nil, d.err
	}
	d.pages = append(d.pages, len(hours))
	for _, v := range hours {
		total := v.Total.Text('f')
		if !v.Complete() {
			total = "~" + total
		}
		had, ok := d.hours[v.At.Unix()]
		if !ok || strings.HasPrefix(had, "~") && v.Complete() {
			d.hours[v.At.Unix()] = total
			stored = append(stored, snapshot.Snapshot{Bucket: v.At, TakenAt: v.At, Total: v.Total,
				Complete: v.Complete()})
		}
	}
	return stored, nil
}

// past is a history: at says what there was, and the reading ends before an
// hour that stop says something of, in error or for want of time.
type past struct {
	at   func(time.Time) snapshot.Hour
	stop func(time.Time) (error, bool)
	read []time.Time
}

func (p *past) Hours(_ context.Context, _ uuid.UUID, first, last time.Time,
	visit func(snapshot.Hour) error) (time.Time, error) {
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

// rising is worth as much as hours have passed in February.
func rising(h time.Time) snapshot.Hour {
	n := max(0, int64(h.Sub(day(1))/time.Hour))
	return snapshot.Hour{
		At: h, Wallets: []valuation.Wallet{{Account: "w", Synced: true, SyncedAt: h}},
		Holdings: []valuation.Holding{{TokenID: "t", Symbol: "T", Verified: true, Amount: big.NewInt(n), Price: "1"}},
	}
}

func backfill(t *testing.T, d *diary, p *past, start, end time.Time) (snapshot.Progress, error) {
	t.Helper()
	return snapshot.NewService(d, nil, p, slog.New(slog.DiscardHandler), at).Backfill(t.Context(),
		portfolio.Portfolio{ID: uuid.New()}, start, end)
}

func TestARangeHasToFollowTheRules(t *testing.T) {
	now, settled := at(), 15*time.Minute
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
		{"five years", "", now.AddDate(-5, 0, 0), now, 5*365*24 + 24, settled},
		{"a day", "", day(1), day(2), 24, 0},
		{"a day that begins and ends within an hour", "", day(1).Add(time.Nanosecond), day(2).Add(time.Nanosecond), 24,
			0},
		{"no hour begins in it", "", day(1).Add(time.Minute), day(1).Add(time.Hour), 0, 0},
		{"hours are UTC's", "", day(1).In(time.FixedZone("", 12345)),
			day(1).Add(time.Hour).In(time.FixedZone("", -1234)), 1, 0},
		{"the hour that it is, before it has settled", "", now.Truncate(time.Hour), now, 0, 0},
		{"and a quarter of an hour after it began", "", now.Add(-2 * time.Hour), now.Add(14 * time.Minute), 1,
			14 * time.Minute},
		{"and later", "", now.Add(-2 * time.Hour), now.Add(14 * time.Minute), 2, 14*time.Minute + 1},
		{"a clock that is a little ahead, without the hour to come", "", now.Add(58 * time.Minute),
			now.Add(59*time.Minute + 30*time.Second), 0, 58*time.Minute + 45*time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &past{at: rising}
			service := snapshot.NewService(&diary{hours: map[int64]string{}}, nil, p, slog.New(slog.DiscardHandler),
				func() time.Time {
					return now.Add(tc.late)
				})
			got, err := service.Backfill(t.Context(), portfolio.Portfolio{}, tc.start, tc.end)
			if tc.field == "" {
				if err != nil || got.Done != tc.hours || got.Remaining != 0 || !got.Next.IsZero() ||
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
	d, p := &diary{hours: map[int64]string{}}, &past{at: rising}
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
		len(d.pages) != 1 {
		t.Errorf("stored %v in pages of %v", d.hours, d.pages)
	}
	p.read = nil
	if got, err := backfill(t, d, p, day(2), day(3)); err != nil || got.Done != 24 || got.Stored != 0 ||
		got.Newest != nil || len(p.read) > 0 {
		t.Errorf("once more: %+v, %v, read %v", got, err, p.read)
	}
}

// Cut off anywhere, in any way, and gone on with, a backfill comes to what an
// undisturbed one does, and every answer says how far it came.
func TestABackfillThatIsCutOffComesToTheSame(t *testing.T) {
	away := errs.Unavailable("WALLET_UNAVAILABLE", "away")
	rapid.Check(t, func(rt *rapid.T) {
		hours := rapid.IntRange(1, 1200).Draw(rt, "hours")
		start := day(1).Add(-600 * time.Hour)
		end := start.Add(time.Duration(hours) * time.Hour)
		bare := func(h time.Time) snapshot.Hour { // incomplete now and then
			was := rising(h)
			was.Holdings[0].Amount = big.NewInt(h.Unix())
			if h.Unix()/3600%7 == 0 {
				was.Holdings = append(was.Holdings,
					valuation.Holding{TokenID: "u", Symbol: "U", Verified: true, Amount: big.NewInt(1)})
			}
			return was
		}
		had := map[int64]string{}
		for range rapid.IntRange(0, 40).Draw(rt, "stored before") {
			h := start.Add(time.Duration(rapid.IntRange(0, hours-1).Draw(rt, "hour")) * time.Hour)
			had[h.Unix()] = rapid.SampledFrom([]string{"1", "~1"}).Draw(rt, "as")
		}
		undisturbed := &diary{hours: maps.Clone(had)}
		if got, err := backfill(t, undisturbed, &past{at: bare}, start, end); err != nil || got.Remaining != 0 {
			rt.Fatal(got, err)
		}
		d, stored := &diary{hours: maps.Clone(had)}, 0
		for next := start; !next.IsZero(); {
			left := rapid.IntRange(0, 400).Draw(rt, "hours until the cut")
			cut := rapid.SampledFrom([]error{away, nil, nil}).Draw(rt, "cut")
			d.err = rapid.SampledFrom([]error{nil, nil, nil, errors.New("the database is away")}).Draw(rt, "store")
			p := &past{at: bare, stop: func(time.Time) (error, bool) { left--; return cut, left < 0 }}
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
				(got.Remaining == 0) != got.Next.IsZero() ||
				got.Remaining > 0 && !got.Next.Equal(next.Add(time.Duration(got.Done)*time.Hour)) {
				rt.Fatalf("%+v of %d hours from %s", got, total, next)
			}
			next = got.Next
		}
		if !maps.Equal(d.hours, undisturbed.hours) {
			rt.Fatalf("came to %v, undisturbed to %v", d.hours, undisturbed.hours)
		}
		if len(d.hours) != hours {
			rt.Fatalf("%d of %d hours have a snapshot", len(d.hours), hours)
		}
	})
}

func TestAnHourOfWhichNothingIsKnownIsNoZero(t *testing.T) {
	failed := valuation.Wallet{Account: "f", Failed: true, Problem: "no state of that block"}
	synced := valuation.Wallet{Account: "s", Synced: true}
	none := valuation.Holding{TokenID: "u", Symbol: "U", Verified: true, Amount: big.NewInt(1), Reason: "NO_PRICE"}
	stale := valuation.Holding{TokenID: "t", Symbol: "T", Verified: true, Amount: big.NewInt(1), Price: "3",
		PriceStale: true}
	for _, tc := range []struct {
		name   string
		hour   snapshot.Hour
		stored string
		reason string
	}{
		{"nothing was held, and all of it seen", snapshot.Hour{Wallets: []valuation.Wallet{synced, synced}}, "0", ""},
		{"no wallets", snapshot.Hour{}, "", ""},
		{"all wallets failed", snapshot.Hour{Wallets: []valuation.Wallet{failed}}, "", "CHAIN_UNAVAILABLE"},
		{"one failed and the other held nothing", snapshot.Hour{Wallets: []valuation.Wallet{synced, failed}}, "",
			"CHAIN_UNAVAILABLE"},
		{"one failed", snapshot.Hour{Wallets: []valuation.Wallet{synced, failed},
			Holdings: []valuation.Holding{stale}}, "~3.00000000", ""},
		{"no price", snapshot.Hour{Wallets: []valuation.Wallet{synced}, Holdings: []valuation.Holding{none}}, "",
			"PRICES_UNAVAILABLE"},
		{"one price missing", snapshot.Hour{Wallets: []valuation.Wallet{synced},
			Holdings: []valuation.Holding{stale, none}}, "~3.00000000", ""},
		{"a stale price", snapshot.Hour{Wallets: []valuation.Wallet{synced}, Holdings: []valuation.Holding{stale}},
			"~3.00000000", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &diary{hours: map[int64]string{}}
			bad := day(1).Add(3 * time.Hour)
			p := &past{at: func(h time.Time) snapshot.Hour {
				if !h.Equal(bad) {
					return rising(h)
				}
				tc.hour.At = h
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
			// The call that stored the hours before says how far it came, and the
			// next one why it goes no further.
			if err != nil || !got.Next.Equal(bad) || got.Stored != 2 {
				t.Errorf("%+v, %v", got, err)
			}
			_, err = backfill(t, d, p, got.Next, day(1).Add(6*time.Hour))
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

func TestWhatIsStoredAtOnceIsBounded(t *testing.T) {
	d := &diary{hours: map[int64]string{}}
	wide := func(h time.Time) snapshot.Hour {
		was := rising(h)
		for i := range 2999 {
			was.Holdings = append(was.Holdings,
				valuation.Holding{TokenID: fmt.Sprint(i), Amount: big.NewInt(1), Price: "1"})
		}
		return was
	}
	if got, err := backfill(t, d, &past{at: wide}, day(1), day(1).Add(10*time.Hour)); err != nil || got.Stored != 10 ||
		!slices.Equal(d.pages, []int{4, 4, 2}) {
		t.Errorf("%+v, %v, in pages of %v", got, err, d.pages)
	}
	d.pages = nil
	if got, err := backfill(t, d, &past{at: rising}, day(-60), day(-60).Add(1100*time.Hour)); err != nil ||
		got.Stored != 1100 || slices.Max(d.pages) != 500 {
		t.Errorf("%+v, %v, in pages of %v", got, err, d.pages)
	}
}

// patient waits for the context that it reads with.
type patient struct{ limits []time.Duration }

func (p *patient) Hours(ctx context.Context, _ uuid.UUID, first, _ time.Time,
	visit func(snapshot.Hour) error) (time.Time, error) {
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
			d, begun := &diary{hours: map[int64]string{}}, time.Now()
			s := snapshot.NewService(d, nil, &patient{}, slog.New(slog.DiscardHandler), at)
			got, err := s.Backfill(ctx, portfolio.Portfolio{}, day(1), day(2))
			if took := time.Since(begun); err != nil || took != tc.takes || got.Stored != 1 || got.Remaining != 23 ||
				!got.Next.Equal(day(1).Add(time.Hour)) {
				t.Errorf("given %s: %+v, %v, took %s", tc.given, got, err, took)
			}
		})
	}
}

func TestACallThatIsCutShortSaysWhyInTheLog(t *testing.T) {
	var log bytes.Buffer
	d := &diary{hours: map[int64]string{}}
	p := &past{at: rising, stop: func(h time.Time) (error,
		bool) {
		return errs.Unavailable("WALLET_UNAVAILABLE", "away"), h.Hour() == 7
	}}
	s := snapshot.NewService(d, nil, p, slog.New(slog.NewTextHandler(&log, nil)), at)
	got, err := s.Backfill(t.Context(), portfolio.Portfolio{}, day(1), day(2))
	if err != nil || got.Done != 7 || !strings.Contains(log.String(), `msg="backfill cut short"`) ||
		!strings.Contains(log.String(), "WALLET_UNAVAILABLE") {
		t.Errorf("%+v, %v, logged %s", got, err, &log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p.stop = func(h time.Time) (error, bool) { cancel(); return ctx.Err(), h.Hour() == 9 }
	if _, err := s.Backfill(ctx, portfolio.Portfolio{}, day(1), day(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone is answered %v", err)
	}
}
