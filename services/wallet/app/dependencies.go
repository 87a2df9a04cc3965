package app

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/dependency"
)

// watchedFeed is a price feed that is asked whether it answers.
type watchedFeed struct {
	name, url string
	probe     func(context.Context) error
}

// watchChainsAndPrices has each node and each price feed watched. They may cost money
// for each question, so they are not asked as often as what is near.
func watchChainsAndPrices(b *chassis.Builder, cfg Config, nodes chainReader, feeds []watchedFeed) {
	for _, id := range slices.Sorted(maps.Keys(cfg.ChainRPCURLs)) {
		for i, node := range cfg.ChainRPCURLs[id] {
			b.DependsOn(dependency.Check{
				Name: fmt.Sprintf("chain:%d", id), Address: redact.URL(node), Interval: dependency.FarInterval,
				Secrets: []string{node}, Probe: nodes.Watch(id, i),
				Effect: "Balances of this chain are not read anew, unless its other nodes answer.",
			})
		}
	}
	for _, f := range feeds {
		b.DependsOn(dependency.Check{
			Name: f.name, Address: redact.URL(f.url), Probe: f.probe, Interval: dependency.FarInterval,
			Secrets: []string{f.url, cfg.Price.CoinGeckoKey.Reveal()},
			Effect: "Prices come from the next source that has them; without one they grow old, and are missing " +
				"once they are older than PURSER_PRICE_STALE.",
		})
	}
}
