package balancesync

import (
	"context"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Positions reads what holders have in markets of protocols; *defi.Service does.
type Positions interface {
	// Read returns the readings of a chain's markets at a block, by holder in their order; nil without markets. What
	// can't be read is missing in them. It leaves some of ctx's time.
	Read(ctx context.Context, chain uint64, at block.Block, holders []common.Address) [][]defi.Reading
}

// ReadPositions has positions read with the balances, at their block. Call it before Sync.
func (s *Service) ReadPositions(p Positions) { s.positions = p }

// ReadPositions has positions read with the balances, at their block. Call it before Run.
func (r *Round) ReadPositions(p Positions) { r.positions = p }

// readPositions returns the positions of wallets of a chain at a block, in their order; none without a reader.
func readPositions(ctx context.Context, p Positions, chain uint64, at block.Block,
	wallets ...wallet.Wallet) [][]defi.Reading {
	none := make([][]defi.Reading, len(wallets))
	if p == nil {
		return none
	}
	holders := make([]common.Address, len(wallets))
	for i, w := range wallets {
		holders[i] = w.Account.Address
	}
	if read := p.Read(ctx, chain, at, holders); len(read) == len(wallets) {
		return read
	}
	return none
}
