package chain

import (
	"context"

	"go.opentelemetry.io/otel"

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
	var found []token.Contract
	choice := &headChoice{reader: r, chain: chain}
	err := r.tryNodes(ctx, chain, r.inOrder(r.nodes[chain]), func(ctx context.Context, n *node) (err error) {
		found, err = r.contractsOf(ctx, n, choice.check, queries)
		return err
	})
	return found, err
}

// contractsOf asks a node what contracts are at its newest block.
func (r *Reader) contractsOf(ctx context.Context, n *node, check headCheck,
	queries []query) ([]token.Contract, error) {
	ctx, cancel := context.WithTimeout(ctx, r.readTimeout(len(queries)))
	defer cancel()
	b, err := r.newest(ctx, n)
	if err == nil {
		err = check(ctx, n, b)
	}
	if err != nil {
		return nil, err
	}
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
