package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// recomputing is the store of a RecomputeJob: which portfolios are due, which of their hours are out of date, and what
// was noted of them.
type recomputing struct {
	fakeStore
	due       []snapshot.ToRecompute
	outOfDate map[int64]bool
	noted     map[uuid.UUID]string // "next at", as the hours since at()
	limit     int
}

func (d *recomputing) DueForRecompute(_ context.Context, _, _ int, _ time.Time, limit int) ([]snapshot.ToRecompute,
	error) {
	d.limit = limit
	return d.due, nil
}

func sinceAt(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%.2f", t.Sub(at()).Hours())
}

func (d *recomputing) Recomputed(_ context.Context, p snapshot.ToRecompute, next, again time.Time) error {
	d.noted[p.ID] = sinceAt(next) + " " + sinceAt(again)
	return nil
}

func (d *recomputing) RetryRecompute(_ context.Context, id uuid.UUID, again time.Time) error {
	d.noted[id] = "retry " + sinceAt(again)
	return nil
}

func (d *recomputing) OutOfDateHours(_ context.Context, _ uuid.UUID, first, until time.Time,
	limit int) (hours []time.Time, err error) {
	for h := first; h.Before(until) && len(hours) < limit; h = h.Add(time.Hour) {
		if d.outOfDate[h.Unix()] {
			hours = append(hours, h)
		}
	}
	return hours, nil
}

// recompute runs the job after at(), when hours 2, 3 and 7 of a portfolio are out of date, and returns what it noted
// of the portfolio, and the hours that it stored.
func recompute(t *testing.T, late time.Duration, p *fakeHistory) (noted string, stored []int, d *recomputing) {
	t.Helper()
	d = &recomputing{fakeStore: fakeStore{hours: map[int64]string{}}, outOfDate: map[int64]bool{},
		noted: map[uuid.UUID]string{}}
	for _, n := range []int{2, 3, 7} {
		d.outOfDate[day(1).Add(time.Duration(n)*time.Hour).Unix()] = true
	}
	d.due = []snapshot.ToRecompute{{Portfolio: portfolio.Portfolio{ID: uuid.New(), Owner: uuid.New()},
		From: day(1).Add(time.Hour)}}
	if err := d.run(t, late, p); err != nil {
		t.Fatal(err)
	}
	for at := range d.hours {
		stored = append(stored, int(time.Unix(at, 0).Sub(day(1))/time.Hour))
	}
	slices.Sort(stored)
	return d.noted[d.due[0].ID], stored, d
}

func (d *recomputing) run(t *testing.T, late time.Duration, p *fakeHistory) error {
	t.Helper()
	now := func() time.Time { return at().Add(late) }
	as := func(ctx context.Context) (context.Context, error) { return ctx, d.err }
	log := slog.New(slog.DiscardHandler)
	return snapshot.NewRecomputeJob(d, snapshot.NewService(d, fakeHoldings{}, p, log, now), as, log,
		now).Run(t.Context(), 0, 1)
}

func TestTheRecomputeJobTakesTheHoursThatAreOutOfDateAndNoOthers(t *testing.T) {
	p := &fakeHistory{at: rising}
	noted, stored, d := recompute(t, 20*time.Minute, p)
	if noted != "none 0.33" || !slices.Equal(stored, []int{2, 3, 7}) || d.limit != 100 {
		t.Errorf("noted %s, stored %v, asked for %d portfolios", noted, stored, d.limit)
	}
	for _, h := range p.read {
		if n := int(h.Sub(day(1)) / time.Hour); n < 2 || n > 7 {
			t.Errorf("hour %d was read", n)
		}
	}
}

// In its first quarter an hour can't be read: it may be out of date, and is looked at as soon as it can.
func TestTheRecomputeJobComesBackForThePresentHour(t *testing.T) {
	noted, stored, _ := recompute(t, 0, &fakeHistory{at: rising})
	if noted != "-0.02 0.23" || !slices.Equal(stored, []int{2, 3, 7}) {
		t.Errorf("noted %s, stored %v", noted, stored)
	}
}

func TestTheRecomputeJobGoesOnWhereItHadNoMoreTime(t *testing.T) {
	seventh := day(1).Add(7 * time.Hour)
	noted, stored, _ := recompute(t, 20*time.Minute, &fakeHistory{at: rising,
		stop: func(h time.Time) (error, bool) { return nil, !h.Before(seventh) }})
	if want := sinceAt(seventh) + " 0.33"; noted != want && noted != sinceAt(day(1).Add(4*time.Hour))+" 0.33" ||
		!slices.Equal(stored, []int{2, 3}) {
		t.Errorf("noted %s, want %s, stored %v", noted, want, stored)
	}
}

// An hour of which nothing can be said is passed over, and tried again after hours: not with every run.
func TestTheRecomputeJobPassesOverHoursOfWhichNothingIsKnown(t *testing.T) {
	noted, stored, d := recompute(t, 20*time.Minute, &fakeHistory{at: func(h time.Time) snapshot.HourHoldings {
		hour := rising(h)
		if h.Equal(day(1).Add(3 * time.Hour)) {
			hour.Wallets, hour.Holdings = []valuation.Wallet{{Account: "w"}}, nil
		}
		return hour
	}})
	if want := sinceAt(d.due[0].From) + " 6.33"; noted != want || !slices.Equal(stored, []int{2, 7}) {
		t.Errorf("noted %s, want %s, stored %v", noted, want, stored)
	}
}

func TestAPortfolioThatFailsIsRecomputedLaterAndStopsNoOther(t *testing.T) {
	failing := errs.Unavailable("WALLET_UNAVAILABLE", "away")
	calls := 0
	p := &fakeHistory{at: rising, stop: func(time.Time) (error, bool) {
		calls++
		return failing, calls == 1
	}}
	d := &recomputing{fakeStore: fakeStore{hours: map[int64]string{}}, outOfDate: map[int64]bool{day(1).Unix(): true},
		noted: map[uuid.UUID]string{}}
	for range 2 {
		d.due = append(d.due, snapshot.ToRecompute{Portfolio: portfolio.Portfolio{ID: uuid.New()}, From: day(1)})
	}
	if err := d.run(t, 20*time.Minute, p); err != nil {
		t.Fatal(err)
	}
	if first, second := d.noted[d.due[0].ID], d.noted[d.due[1].ID]; first != "retry 0.50" || second != "none 0.33" {
		t.Errorf("noted %q and %q", first, second)
	}
}

func TestTheRecomputeJobWithoutATokenReadsNothing(t *testing.T) {
	d := &recomputing{fakeStore: fakeStore{err: errs.Unavailable("AUTH_UNAVAILABLE", "away")}}
	if err := d.run(t, 0, &fakeHistory{}); !errors.Is(err, d.err) || d.limit != 0 {
		t.Errorf("%v, asked for %d portfolios", err, d.limit)
	}
}
