package chain

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Contracts implements token.ContractReader.
func (r *Reader) Contracts(ctx context.Context, chain uint64, tokens []token.Token) ([]token.Contract, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Contracts", spanOptions(chain, len(tokens))...)
	defer span.End()
	queries := make([]query, len(tokens))
	for i, t := range tokens {
		queries[i] = query{token: t, decimals: true}
	}
	if r.quorum(chain) == 1 {
		choice := &headChoice{reader: r, chain: chain}
		return tryNodes(ctx, r, chain, r.inOrder(r.nodes[chain]), readHedgeDelay,
			func(ctx context.Context, n *node) ([]token.Contract, error) {
				ctx, cancel := context.WithTimeout(ctx, r.readTimeout(len(queries)))
				defer cancel()
				b, err := r.newest(ctx, n)
				if err == nil {
					err = choice.check(ctx, n, b)
				}
				if err != nil {
					return nil, err
				}
				return r.contractsOf(ctx, n, b, queries)
			})
	}
	at, err := r.agreeOnBlock(ctx, chain, 0)
	if err != nil {
		return nil, err
	}
	same := func(c token.Contract) token.Contract { return c }
	answers, err := askQuorum(ctx, r, chain, at.nodes, readHedgeDelay, isSettled(r.quorum(chain), same),
		func(ctx context.Context, n *node) ([]token.Contract, error) {
			ctx, cancel := context.WithTimeout(ctx, r.readTimeout(len(queries)))
			defer cancel()
			return r.contractsOf(ctx, n, at.Block, queries)
		})
	if err != nil {
		return nil, err
	}
	found, open := settle(answers, r.quorum(chain), same)
	if i := slices.Index(open, true); i >= 0 {
		return nil, r.disagreement(ctx, chain, "what the contract of "+tokens[i].ID+" says of itself", says(answers))
	}
	return found, nil
}

// contractsOf asks a node what contracts are at a block.
func (r *Reader) contractsOf(ctx context.Context, n *node, b block.Block, queries []query) ([]token.Contract, error) {
	results, err := r.readChunks(ctx, n, b, queries)
	if err != nil {
		return nil, err
	}
	found := make([]token.Contract, len(queries))
	for i, answer := range results {
		switch {
		case answer.noData:
			contract := queries[i].token.Contract
			if found[i].WithoutCode, err = n.isWithoutCode(ctx, callTimeout, b, contract); err != nil {
				return nil, err
			}
		case answer.amount != nil && answer.amount.IsUint64() && answer.amount.Uint64() <= 255:
			found[i].Decimals, found[i].Says = uint8(answer.amount.Uint64()), true
		}
	}
	return found, nil
}
