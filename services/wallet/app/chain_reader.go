package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/purserhq/purser/services/internal/ethsig"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/chainlink"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/newblocks"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// chainReader is all that the service asks of an adapter of chains. The domains declare the parts and what each
// promises. Its methods are safe for concurrent use.
type chainReader interface {
	newblocks.Reader          // which accounts the newest blocks touched
	balancesync.BalanceReader // the balances of one wallet
	balancesync.BatchReader   // of many
	token.ContractReader      // what tokens' contracts say of themselves
	history.BalanceReader     // balances of the past
	transaction.ChainReader   // movements of tokens and coins
	chainreset.Nodes          // the blocks by which a chain that was reset is recognised
	chainlist.Nodes           // which nodes are usable
	chainlink.Reader          // price feeds on chain
	defi.Caller               // contracts of markets
	// SignatureNodes returns the nodes of a chain on which signatures of contract wallets are checked, in the order to
	// try; none where there are no such wallets.
	SignatureNodes(chain uint64) []ethsig.Node
	// Watch returns a question for the service's status: whether a node of a chain, counted from 0, is usable.
	Watch(chain uint64, number int) func(context.Context) error
	// Close closes the connections.
	Close() error
}

// newChainReader returns the adapter of the nodes that are configured. It calls no node yet.
func newChainReader(cfg Config, log *slog.Logger) (chainReader, error) {
	nodes, err := chain.NewReader(chain.Options{Nodes: cfg.ChainRPCURLs, Quorum: cfg.ChainQuorum,
		ChunkSize: cfg.BalancesPerCall, Log: log, Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("PURSER_CHAIN_RPC_URLS: %w", err)
	}
	return nodes, nil
}
