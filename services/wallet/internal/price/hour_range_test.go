package price_test

import (
	"slices"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

func TestRangesThatOverlapOrMeetAreOne(t *testing.T) {
	hours := func(id string, from, until int) price.HourRange {
		start := time.Date(2024, 2, 28, 0, 0, 0, 0, time.UTC)
		return price.HourRange{TokenID: id, From: start.Add(time.Duration(from) * time.Hour),
			Until: start.Add(time.Duration(until) * time.Hour)}
	}
	got := price.Joined([]price.HourRange{hours("b", 5, 9), hours("a", 4, 6), hours("a", 0, 2), hours("a", 2, 3),
		hours("a", 5, 6), hours("c", 7, 7), hours("b", 6, 7)})
	want := []price.HourRange{hours("a", 0, 3), hours("a", 4, 6), hours("b", 5, 9)}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, r := range want {
		if read, err := price.ParseHourRange(r.String()); err != nil || read != r {
			t.Errorf("%v is read as %v, %v", r, read, err)
		}
	}
	for _, bad := range []string{"", "a", "a b c", "a 2024-02-28T00:00:00Z"} {
		if r, err := price.ParseHourRange(bad); err == nil {
			t.Errorf("%q is read as %v", bad, r)
		}
	}
}
