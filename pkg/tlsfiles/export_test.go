package tlsfiles

import (
	"log/slog"
	"time"
)

// LoadPairAt is LoadPair with a clock.
func LoadPairAt(cert, key string, log *slog.Logger, now func() time.Time) (*Pair, error) {
	return loadPair(cert, key, log, now)
}

// LoadRootsAt is LoadRoots with a clock.
func LoadRootsAt(file string, log *slog.Logger, now func() time.Time) (*Roots, error) {
	return loadRoots(file, log, now)
}
