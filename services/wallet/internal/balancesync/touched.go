package balancesync

import (
	"cmp"
	"context"

	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// SyncTouched syncs wallets of one chain, whenever their last syncs were. block is one in which they were touched:
// behind reports that some could only be read at an earlier one. The error is that of the chain, which is the outcome
// of the wallets too, or of storage.
func (r *Round) SyncTouched(ctx context.Context, chain, block uint64, wallets []wallet.Wallet) (behind bool,
	err error) {
	tokens, err := token.ListAll(ctx, r.tokens, chain)
	if err != nil {
		return false, err
	}
	if r.resets != nil {
		r.resets.Check(ctx, chain, 0)
	}
	tokens = r.contracts.Check(ctx, chain, tokens)
	n := &counts{wanted: block}
	for len(wallets) > 0 {
		size := min(len(wallets), maxWalletsPerBatch)
		chainErr, err := r.syncPage(ctx, chain, wallets[:size], tokens, nil, n)
		if err = cmp.Or(err, chainErr); err != nil {
			return n.behind, err
		}
		wallets = wallets[size:]
	}
	return n.behind, nil
}
