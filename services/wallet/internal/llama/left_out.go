package llama

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// leftOut counts the prices of a reply that are not used, by the reason, with a token
// for an example.
type leftOut map[string]*reasonCount

type reasonCount struct {
	n       int
	example string // the id of a token
}

func (l leftOut) add(t token.Token, why string) {
	if l[why] == nil {
		l[why] = &reasonCount{example: t.ID}
	}
	l[why].n++
}

// tell logs them, if there are any.
func (l leftOut) tell(ctx context.Context, log *slog.Logger) {
	if len(l) == 0 {
		return
	}
	var reasons []string
	for _, why := range slices.Sorted(maps.Keys(l)) {
		reasons = append(reasons, fmt.Sprintf("%s: %d, such as %s", why, l[why].n, l[why].example))
	}
	log.WarnContext(ctx, "prices left out", "source", Name, "reasons", strings.Join(reasons, "; "))
}

// withoutNaN returns a reply in which the numbers that JSON doesn't have, NaN and the
// infinities, are null. Feeds written in Python send them, and one of them makes the
// whole reply unreadable.
func withoutNaN(body []byte) []byte {
	if !bytes.Contains(body, []byte("NaN")) && !bytes.Contains(body, []byte("Infinity")) {
		return body
	}
	out, inText := make([]byte, 0, len(body)), false
	for i := 0; i < len(body); i++ {
		switch {
		case inText && body[i] == '\\' && i+1 < len(body):
			out = append(out, body[i])
			i++
		case body[i] == '"':
			inText = !inText
		case !inText:
			if word := noNumber(body[i:]); word > 0 {
				out = append(out, "null"...)
				i += word - 1
				continue
			}
		}
		out = append(out, body[i])
	}
	return out
}

// noNumber returns the length of the NaN or infinity that a text begins with.
func noNumber(text []byte) int {
	for _, word := range []string{"NaN", "Infinity", "-Infinity", "-NaN"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return len(word)
		}
	}
	return 0
}
