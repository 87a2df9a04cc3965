package defi

import (
	"fmt"
	"maps"
	"slices"
)

// Protocols are the names of all adapters.
func Protocols() []string { return slices.Sorted(maps.Keys(adapters)) }

// String is all of a position, for the texts of tests that fail: fmt prints an amount as its four words.
func (p Position) String() string {
	text := fmt.Sprintf("%s%s %s of %s", p.Kind, p.Mode, p.Amount.Dec(), p.Asset)
	for _, more := range [][2]string{{"receipt", p.Receipt}, {"rate", p.YearlyRate}, {"index", p.GrowthIndexText()}} {
		if more[1] != "" {
			text += " " + more[0] + " " + more[1]
		}
	}
	if p.Collateral {
		text += " collateral"
	}
	if p.Ended {
		text += " ended"
	}
	return text
}

// String is all of a reading, of which fmt prints that of the market alone otherwise.
func (r Reading) String() string {
	return fmt.Sprintf("%s: %v missing %q", r.Market, r.Positions, r.Missing)
}
