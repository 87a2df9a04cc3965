package app_test

import (
	"math/big"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// The fake wallet's second token has no price in every 7th hour, and its wallet could not be read in every 11th: the
// total of that hour is too low by all of it.
func TestAnHourInAGapIsInNoFigureOfTheTimeline(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	until := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	from := until.AddDate(0, 0, -3)
	// Some hours before and after, so that the first and the last hour of a day have neighbours with a price.
	if _, _, err := s.backfill(ctx, from.Add(-6*time.Hour), until.Add(6*time.Hour)); err != nil {
		t.Fatal(err)
	}
	inGap := func(h time.Time) bool {
		_, _, _, unpriced, failed := hourOfHistory(h)
		return unpriced || failed
	}
	read := func(i portfoliov1.Interval) []*portfoliov1.TimelinePoint {
		resp, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{Interval: i, StartTime: timestamppb.New(from),
			EndTime: timestamppb.New(until)})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetPoints()
	}
	for _, day := range read(portfoliov1.Interval_INTERVAL_DAILY) {
		var open, last, lowest, highest *big.Rat
		leftOut := 0
		for h := day.GetStartTime().AsTime(); h.Before(day.GetEndTime().AsTime()); h = h.Add(time.Hour) {
			if inGap(h) {
				leftOut++
				continue
			}
			text, _ := expectedTotal(h)
			total, _ := new(big.Rat).SetString(text)
			if last = total; open == nil {
				open, lowest, highest = total, total, total
			}
			if total.Cmp(lowest) < 0 {
				lowest = total
			}
			if total.Cmp(highest) > 0 {
				highest = total
			}
		}
		for name, figure := range map[string]struct {
			got  string
			want *big.Rat
		}{"open": {day.GetOpen(), open}, "close": {day.GetClose(), last}, "min": {day.GetMin(), lowest},
			"max": {day.GetMax(), highest}} {
			if got, ok := new(big.Rat).SetString(figure.got); !ok || got.Cmp(figure.want) != 0 {
				t.Errorf("%s of %s is %s, want %s", name, day.GetStartTime().AsTime(), figure.got,
					figure.want.FloatString(8))
			}
		}
		if leftOut == 0 || int(day.GetLeftOutCount()) != leftOut || day.GetSnapshotCount() != 24 || day.GetComplete() {
			t.Errorf("%v, want %d hours left out", day, leftOut)
		}
	}
	before := ""
	for _, hour := range read(portfoliov1.Interval_INTERVAL_HOURLY) {
		h := hour.GetStartTime().AsTime()
		switch {
		case !inGap(h):
			if hour.GetCarriedForward() || hour.GetLeftOutCount() != 0 {
				t.Errorf("%s is %v", h, hour)
			}
		case !hour.GetCarriedForward() || hour.GetLeftOutCount() != 1 || hour.GetComplete() ||
			before != "" && hour.GetClose() != before:
			t.Errorf("%s, in a gap after %s, is %v", h, before, hour)
		}
		before = hour.GetClose()
	}
	snaps, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500})
	if err != nil || len(snaps.GetSnapshots()) < 72 {
		t.Fatal(snaps, err)
	}
	for _, snap := range snaps.GetSnapshots() {
		h := snap.GetBucketTime().AsTime()
		if inside := !h.Before(from) && h.Before(until); inside && snap.GetPriceGap() != inGap(h) {
			t.Errorf("%s: %v", h, snap)
		}
	}
}

// While a price is away the value is what GetValuation says; when it is back, the hours without it are left out.
func TestAGapShowsWhenThePriceIsBack(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	var hours []time.Time // one, a gap of one hour, one
	for h := time.Now().UTC().Truncate(time.Hour).Add(-100 * time.Hour); len(hours) < 3; h = h.Add(time.Hour) {
		if _, failed := hourFails(h); (len(hours) == 1) == failed && h.Unix()/3600%11 != 0 {
			hours = append(hours, h)
		} else {
			hours = nil
		}
	}
	take := func(from, until time.Time) {
		if _, _, err := s.backfill(ctx, from, until); err != nil {
			t.Fatal(err)
		}
	}
	gap := func() *portfoliov1.TimelinePoint {
		resp, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{
			Interval: portfoliov1.Interval_INTERVAL_HOURLY, StartTime: timestamppb.New(hours[1]),
			EndTime: timestamppb.New(hours[2])})
		if err != nil || len(resp.GetPoints()) != 1 {
			t.Fatal(resp, err)
		}
		return resp.GetPoints()[0]
	}
	take(hours[0], hours[2])
	low, _ := expectedTotal(hours[1])
	if p := gap(); p.GetClose() != low || p.GetLeftOutCount() != 0 || p.GetComplete() {
		t.Errorf("before the price is back: %v, want %s", p, low)
	}
	take(hours[2], hours[2].Add(time.Hour))
	right, _ := expectedTotal(hours[0])
	if p := gap(); p.GetClose() != right || p.GetLeftOutCount() != 1 || !p.GetCarriedForward() {
		t.Errorf("after it: %v, want %s carried forward", p, right)
	}
}
