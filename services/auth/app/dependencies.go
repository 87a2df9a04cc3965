package app

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/auth/internal/idp"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/internal/probe"
)

// watchSignIn has watched what only some ways to sign in need: identity providers, and
// the nodes that contract wallets are asked on.
func watchSignIn(b *chassis.Builder, cfg Config) {
	for _, p := range idp.Probes(cfg.OAuth.Providers) {
		b.DependsOn(dependency.Check{
			Name: "identity_provider:" + p.Name, Address: p.Address, Probe: p.Probe, Interval: dependency.FarInterval,
			Effect: "Nobody signs in with an account at this provider.",
		})
	}
	if cfg.SIWE.Domain == "" {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.ChainRPCURLs)) {
		for _, node := range cfg.ChainRPCURLs[id] {
			b.DependsOn(dependency.Check{
				Name: fmt.Sprintf("chain:%d", id), Address: redact.URL(node), Interval: dependency.FarInterval,
				Secrets: []string{node},
				Probe:   func(ctx context.Context) error { return probe.ChainID(ctx, node, id) },
				Effect:  "Nobody signs in with a contract wallet of this chain, unless its other nodes answer.",
			})
		}
	}
}
