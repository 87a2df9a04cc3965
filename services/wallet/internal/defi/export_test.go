package defi

import (
	"maps"
	"slices"
)

// Protocols are the names of all adapters.
func Protocols() []string { return slices.Sorted(maps.Keys(adapters)) }
