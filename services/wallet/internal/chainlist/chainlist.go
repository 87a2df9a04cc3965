// Package chainlist lists the chains that balances can be read from, with the health
// of their nodes.
//
// It promises: a list costs its callers no more than one check of the nodes in ten
// seconds and one read of the native tokens in a minute, however often it is asked
// for; it needs no database.
package chainlist

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// symbolsTTL is how long the symbols of native coins are used.
	symbolsTTL = time.Minute
	// symbolsTimeout bounds reading them.
	symbolsTimeout = time.Second
)

// Chain is a chain and what is known of its nodes.
type Chain struct {
	ID           uint64 // EIP-155
	Name, Symbol string // empty when unknown
	// Head is the newest block by the first usable node that doesn't lag; nil when none
	// is.
	Head  *block.Block
	Nodes []NodeStatus
}

// Nodes knows the health of nodes; chain.Reader does.
type Nodes interface {
	Status(ctx context.Context) ([]Status, error)
}

// Service lists chains. It is safe for concurrent use.
type Service struct {
	nodes  Nodes
	tokens token.Lister
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	symbols map[uint64]string
	readAt  time.Time
}

// NewService returns the service.
func NewService(n Nodes, t token.Lister, log *slog.Logger, now func() time.Time) *Service {
	return &Service{nodes: n, tokens: t, log: log, now: now}
}

// List returns the chains that have a node, in order of their ids. The error is
// ctx's own.
func (s *Service) List(ctx context.Context) ([]Chain, error) {
	all, err := s.nodes.Status(ctx)
	if err != nil {
		return nil, err
	}
	symbols := s.nativeSymbols(ctx, all)
	chains := make([]Chain, len(all))
	for i, c := range all {
		name, symbol := caip.ChainName(c.Chain)
		if known := symbols[c.Chain]; known != "" {
			symbol = known
		}
		chains[i] = Chain{ID: c.Chain, Name: name, Symbol: symbol, Head: head(c.Nodes, s.now()), Nodes: c.Nodes}
	}
	return chains, nil
}

// head returns the newest block by the node that is read from: the first that is
// reachable and doesn't lag behind another one, one without a cooldown before the
// others.
func head(nodes []NodeStatus, now time.Time) *block.Block {
	var newest block.Block
	for _, n := range nodes {
		if n.Reachable && n.Head.Time.After(newest.Time) {
			newest = n.Head
		}
	}
	var cooling *block.Block
	for i, n := range nodes {
		switch {
		case !n.Reachable || Lags(n.Head, newest, now):
		case n.CooldownUntil.IsZero():
			return &nodes[i].Head
		case cooling == nil:
			cooling = &nodes[i].Head
		}
	}
	return cooling
}

// nativeSymbols returns the symbols of the chains' coins on the token list. Without
// a database they are those that were read last.
func (s *Service) nativeSymbols(ctx context.Context, all []Status) map[uint64]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.readAt.IsZero() && s.now().Sub(s.readAt) < symbolsTTL {
		return s.symbols
	}
	s.readAt = s.now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), symbolsTimeout)
	defer cancel()
	symbols := make(map[uint64]string, len(all))
	for _, c := range all {
		// The ids of native coins come after those of contracts.
		found, err := s.tokens.List(ctx, c.Chain, caip.ChainID(c.Chain)+"/slip44", 1)
		if err != nil {
			s.log.WarnContext(ctx, "native tokens can't be read now", "error", err)
			return s.symbols
		}
		if len(found) == 1 && found[0].Native {
			symbols[c.Chain] = found[0].Symbol
		}
	}
	s.symbols = symbols
	return symbols
}
