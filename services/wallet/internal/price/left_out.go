package price

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// LeftOut counts the prices of a reply that are not used, by the reason, with a token
// for an example.
type LeftOut map[string]*reasonCount

type reasonCount struct {
	n       int
	example string // the id of a token
}

// Add counts one.
func (l LeftOut) Add(t token.Token, why string) {
	if l[why] == nil {
		l[why] = &reasonCount{example: t.ID}
	}
	l[why].n++
}

// Log logs them, if there are any.
func (l LeftOut) Log(ctx context.Context, log *slog.Logger, source string) {
	if len(l) == 0 {
		return
	}
	var reasons []string
	for _, why := range slices.Sorted(maps.Keys(l)) {
		reasons = append(reasons, fmt.Sprintf("%s: %d, such as %s", why, l[why].n, l[why].example))
	}
	log.WarnContext(ctx, "prices left out", "source", source, "reasons", strings.Join(reasons, "; "))
}
