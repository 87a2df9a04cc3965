package chain

import (
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/eth/filters"
	gethlog "github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/rpc"
)

const (
	nodeName     = "node"
	databaseName = "chaindata"
)

// openNode makes a node for dir and locks the folder. Nothing listens yet.
func openNode(o Options) (*node.Node, error) {
	host, port, err := loopback(o.HTTPAddr)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, nodeName), 0o700); err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	// Made anew at each start and never used: without it the node would store one.
	identity, err := crypto.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	logger := newNodeLogger(o.Log, os.Stderr)
	gethlog.SetDefault(logger)

	stack, err := node.New(&node.Config{
		Name:                 nodeName,
		DataDir:              o.Dir,
		P2P:                  p2p.Config{PrivateKey: identity, NoDiscovery: true, NoDial: true},
		HTTPHost:             host,
		HTTPPort:             port,
		HTTPModules:          []string{"eth", "net", "web3"},
		HTTPVirtualHosts:     []string{"localhost"},
		HTTPTimeouts:         rpc.DefaultHTTPTimeouts,
		BatchRequestLimit:    node.DefaultConfig.BatchRequestLimit,
		BatchResponseMaxSize: node.DefaultConfig.BatchResponseMaxSize,
		DBEngine:             "pebble",
		Logger:               logger,
	})
	switch {
	case errors.Is(err, node.ErrDatadirUsed):
		return nil, fmt.Errorf("chain: %s is in use by another process", o.Dir)
	case err != nil:
		return nil, fmt.Errorf("chain: %s: %w", o.Dir, err)
	}
	return stack, nil
}

// openEthereum opens the stored chain, or makes one from spec, and registers its
// JSON-RPC with the node.
func openEthereum(stack *node.Node, spec *core.Genesis) (*eth.Ethereum, error) {
	conf := ethconfig.Defaults
	conf.Genesis = spec
	conf.SyncMode = ethconfig.FullSync
	// Archive mode: the state of every block stays on disk, keyed by hash, which is
	// also the layout that core.GenerateChain reads and writes.
	conf.NoPruning = true
	conf.StateScheme = rawdb.HashScheme
	conf.SnapshotCache = 0
	conf.TransactionHistory = 0 // all of it
	// Logs are found by the blocks' bloom filters; an index isn't worth its upkeep
	// for a chain of this size.
	conf.LogNoHistory = true
	conf.DatabaseCache = 64
	conf.DatabaseHandles = 256
	conf.TrieCleanCache = 32
	conf.TrieDirtyCache = 0
	conf.Miner.GasPrice = big.NewInt(1)
	conf.TxPool.NoLocals = true
	conf.TxPool.Journal = ""

	backend, err := eth.New(stack, &conf)
	if err != nil {
		return nil, err
	}
	stack.RegisterAPIs([]rpc.API{{
		Namespace: "eth",
		Service: filters.NewFilterAPI(filters.NewFilterSystem(backend.APIBackend,
			filters.Config{LogQueryLimit: conf.LogQueryLimit})),
	}})
	return backend, nil
}
