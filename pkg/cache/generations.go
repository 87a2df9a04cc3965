package cache

import (
	"context"
	"crypto/rand"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
)

// rememberedNames is how many names of generations a process remembers, some 3 MB at most.
const rememberedNames = 10_000

// Generations end all values of a group at once, such as the pages of a list: the key of each contains the name of
// the group's generation, a random text that is cached too, and the invalidation of the name makes them unreachable.
// A slow reader can then store only under the old name. It is safe for concurrent use.
type Generations struct {
	*Cache[string] // of the names, by group
	// last are the names that were read last, to read values ahead under them. The name is read with them, so an old
	// one costs a round trip and nothing else.
	last *lru.Cache[string, string]
}

// NewGenerations keeps the names in c.
func NewGenerations(c *Cache[string]) *Generations {
	last, _ := lru.New[string, string](rememberedNames) // the error is for less than one
	return &Generations{c, last}
}

// GetUnder is values.Get under the present generations of groups: key returns the key in values for their names.
func GetUnder[V any](ctx context.Context, g *Generations, groups []string, values *Cache[V],
	key func(names string) string, load func(context.Context) (V, error)) (V, error) {
	if names, ok := g.remembered(groups); ok {
		entries := []Entry{values.Entry(key(names))}
		for _, group := range groups {
			entries = append(entries, g.Entry(group))
		}
		ctx = ReadAhead(ctx, entries...)
	}
	names, err := g.names(ctx, groups)
	if err != nil {
		var zero V
		return zero, err
	}
	return values.Get(ctx, key(names), load)
}

// remembered returns the names that the groups had, if all are known.
func (g *Generations) remembered(groups []string) (names string, ok bool) {
	found := make(map[string]string, len(groups))
	for _, group := range groups {
		if found[group], ok = g.last.Get(group); !ok {
			return "", false
		}
	}
	return joined(groups, found), true
}

// names returns the names that the groups have.
func (g *Generations) names(ctx context.Context, groups []string) (string, error) {
	found, err := g.GetMany(ctx, groups, func(_ context.Context, missing []string) (map[string]string, error) {
		fresh := make(map[string]string, len(missing))
		for _, group := range missing {
			fresh[group] = rand.Text()
		}
		return fresh, nil
	})
	if err != nil {
		return "", err
	}
	for group, name := range found {
		g.last.Add(group, name)
	}
	return joined(groups, found), nil
}

func joined(groups []string, names map[string]string) string {
	all := make([]string, len(groups))
	for i, group := range groups {
		all[i] = names[group]
	}
	return strings.Join(all, "/")
}
