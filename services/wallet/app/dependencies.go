package app

import (
	"fmt"
	"maps"
	"slices"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/llama"
)

// watchChainsAndPrices has each node and the price feed watched. They may cost money
// for each question, so they are not asked as often as what is near.
func watchChainsAndPrices(b *chassis.Builder, cfg Config, nodes *chain.Reader, feed *llama.Source) {
	for _, id := range slices.Sorted(maps.Keys(cfg.ChainRPCURLs)) {
		for i, node := range cfg.ChainRPCURLs[id] {
			b.DependsOn(dependency.Check{
				Name: fmt.Sprintf("chain:%d", id), Address: redact.URL(node), Interval: dependency.Far,
				Secrets: []string{node}, Ask: nodes.Watch(id, i),
				Effect: "Balances of this chain are not read anew, unless its other nodes answer.",
			})
		}
	}
	b.DependsOn(dependency.Check{
		Name: "prices", Address: redact.URL(cfg.PriceURL.Reveal()), Ask: feed.Ask, Interval: dependency.Far,
		Secrets: []string{cfg.PriceURL.Reveal()},
		Effect:  "Prices grow old, and are missing once they are older than PURSER_PRICE_STALE.",
	})
}
