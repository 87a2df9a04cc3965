package price

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// HourRange is full hours of a token or currency whose stored price was changed, or may have been by an import.
type HourRange struct {
	TokenID string
	// From is the first hour, and Until the one after the last.
	From, Until time.Time
}

// Joined returns the ranges in order, those of one token that overlap or meet as one, without empty ones.
func Joined(ranges []HourRange) (joined []HourRange) {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b HourRange) int {
		return cmp.Or(cmp.Compare(a.TokenID, b.TokenID), a.From.Compare(b.From))
	})
	for _, r := range sorted {
		if !r.From.Before(r.Until) {
			continue
		}
		if n := len(joined) - 1; n >= 0 && joined[n].TokenID == r.TokenID && !r.From.After(joined[n].Until) {
			if r.Until.After(joined[n].Until) {
				joined[n].Until = r.Until
			}
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// String is the range as one text without a line break; ParseHourRange reads it.
func (r HourRange) String() string {
	return fmt.Sprintf("%s %s %s", r.TokenID, r.From.UTC().Format(time.RFC3339), r.Until.UTC().Format(time.RFC3339))
}

// ParseHourRange reads what String wrote.
func ParseHourRange(text string) (HourRange, error) {
	id, hours, _ := strings.Cut(text, " ")
	first, after, _ := strings.Cut(hours, " ")
	from, err := time.Parse(time.RFC3339, first)
	if err != nil {
		return HourRange{}, fmt.Errorf("range of hours %q: %w", text, err)
	}
	until, err := time.Parse(time.RFC3339, after)
	if err != nil {
		return HourRange{}, fmt.Errorf("range of hours %q: %w", text, err)
	}
	return HourRange{TokenID: id, From: from, Until: until}, nil
}
