// Package transaction finds what moved the balances of wallets: transfers of tokens from
// the Transfer events of their contracts (EIP-20), transfers of the native coin and fees
// from the transactions of blocks in which the coin's balance changed.
//
// It promises: of each wallet and token the amounts of all movements add up to the
// balance of the last sync, always. What no movement explains (interest, rebasing, fees
// on transfer, coins that a contract sent) is an adjustment at the block of the balance
// that shows it. A movement is stored once, however often it is found. A step of a scan
// is stored whole or not at all, and goes on where it ended. When a reorg has replaced
// blocks, what was found in them is removed and looked for again.
//
// Limits: a scan goes up to the block of the wallet's last sync, so transactions are as
// fresh as balances. Movements of the native coin need the state of past blocks, which
// nodes that are not archives keep for some minutes; before that they are one adjustment.
// Within one step at most MaxCoinBlocks blocks of a wallet are searched for them.
package transaction

import (
	"context"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Kind of a movement.
type Kind string

// The kinds.
const (
	Transfer   Kind = "TRANSFER"
	Fee        Kind = "FEE"        // of a transaction that the wallet sent
	Adjustment Kind = "ADJUSTMENT" // what no movement explains
)

// Direction of a movement, as the wallet sees it.
type Direction string

// The directions.
const (
	In   Direction = "IN"
	Out  Direction = "OUT"
	Self Direction = "SELF" // from the wallet to itself: the balance stays
)

// Log indexes of movements that are no event.
const (
	FeeIndex  = -2
	CoinIndex = -1
)

// AdjustmentIndex is the transaction index of adjustments: after all transactions of
// their block.
const AdjustmentIndex = 1<<31 - 1

// Position of a movement among those of its wallet. They are in its order.
type Position struct {
	Block            uint64
	TransactionIndex int32
	LogIndex         int32
	TokenID          string
}

// Movement is one change of a wallet's balance of a token.
type Movement struct {
	Position
	Wallet uuid.UUID
	Token  token.Token
	Kind
	Direction
	// Amount is in base units, above zero. It fits uint256 but for an adjustment, which
	// may be of a contract whose events say impossible amounts.
	Amount *big.Int
	// Counterparty is the address on the other side of a transfer: the zero address for
	// tokens that were created or destroyed.
	Counterparty common.Address
	// CounterpartyWallet is the owner's own wallet at that address; the zero UUID if it
	// is none.
	CounterpartyWallet uuid.UUID
	Hash               common.Hash // of the transaction
	At                 block.Block
	// Imported: no chain told it, and it has no block. Its Counterparty and Hash are zero
	// where they are not known.
	Imported bool
	RowID    string // the importer's id of it
}

// Found is a movement that a chain's node told, before it is known what token it is of.
type Found struct {
	Holder           common.Address
	Native           bool
	Contract         common.Address
	TransactionIndex int32
	LogIndex         int32
	Kind
	Direction
	Amount       uint256.Int
	Counterparty common.Address
	Hash         common.Hash
	At           block.Block
}

// Range of blocks, both included.
type Range struct{ From, To uint64 }

// Reading is what a chain's node answered about a range of blocks.
type Reading struct {
	// Through is the last block of what was read, which may be before Range.To when the
	// node gives less at a time.
	Through block.Block
	Found   []Found
}

// Metadata is what a contract says of itself, made safe to store and to show.
type Metadata struct {
	Symbol, Name string
	Decimals     uint8
	// Known: it says its decimals, without which amounts can't be shown.
	Known bool
	Spam  bool
}

// ChainReader reads movements from chains; package chain does it.
type ChainReader interface {
	// Movements returns the movements of holders in blocks, or in the first of them.
	// atLeast is a block that the node must have.
	Movements(ctx context.Context, chain uint64, holders []common.Address, blocks Range) (Reading, error)
	// Metadata asks contracts what they say of themselves, in the same order.
	Metadata(ctx context.Context, chain uint64, contracts []common.Address) ([]Metadata, error)
	// BlocksAt returns the chain's present blocks of these numbers; a zero block for one
	// that it doesn't have.
	BlocksAt(ctx context.Context, chain uint64, numbers []uint64) ([]block.Block, error)
	// SureBlocksAt is BlocksAt of at least two nodes where the chain has two: a single one must not have anything
	// removed. It is an error when they don't agree, or too few can be read.
	SureBlocksAt(ctx context.Context, chain uint64, numbers []uint64) ([]block.Block, error)
	// Chains lists the chains that have a node.
	Chains() []uint64
}

// Scan is how far a wallet's movements were looked for.
type Scan struct {
	Wallet  uuid.UUID
	Account caip.Account
	Scanned uint64 // 0 before the first step
	Synced  uint64 // the block of the last sync
}

// Step is the result of one step of a scan.
type Step struct {
	Chain   uint64
	Scans   []Scan // as they were before
	Through block.Block
	Found   []Found
	// Tokens of the contracts in Found that were not known, to be stored.
	Tokens []token.Token
}

// ScanStore has the scans of all owners' wallets.
type ScanStore interface {
	// DueScans returns scans of a chain that are behind the wallet's last sync, those
	// that are farthest behind first.
	DueScans(ctx context.Context, chain uint64, limit int) ([]Scan, error)
	// SaveStep stores a step in one transaction and a number of statements that doesn't
	// grow with it, and returns how many wallets it was stored for. It leaves out
	// wallets that were deleted or whose scan has moved on meanwhile.
	SaveStep(ctx context.Context, s Step) (int, error)
	// Checkpoints returns the blocks at which the chain's last scans ended, newest
	// first.
	Checkpoints(ctx context.Context, chain uint64) ([]block.Block, error)
	// Rollback removes what was found after a block of a chain, and has it looked for
	// again. It tells the feed of changes that the blocks since then were replaced. It
	// returns how many movements were removed.
	Rollback(ctx context.Context, after uint64, r block.Replaced) (int, error)
	// KnownTokens returns those of the tokens that are known, by id.
	KnownTokens(ctx context.Context, ids []string) (map[string]token.Token, error)
}

// Filter selects movements of an owner.
type Filter struct {
	Wallet uuid.UUID // the zero UUID: all wallets
	Token  string    // "": all tokens
	Kinds  []Kind    // none: all kinds
	From   time.Time // the time of the block; zero: from the first
	Until  time.Time // before this time; zero: to the last
}

// Cursor is a place in a list of movements, newest first.
type Cursor struct {
	Time             time.Time
	Wallet           uuid.UUID
	Block            int64 // below zero of an import: importing.Position
	TransactionIndex int32
	LogIndex         int32
	Token            string
}

// Store has the movements. It takes the owner: those of another owner's wallet are not
// found.
type Store interface {
	// List returns up to limit movements after a place, newest first. Without a wallet
	// in the filter a transfer between two wallets of the owner is one movement, that
	// of the sender.
	List(ctx context.Context, owner uuid.UUID, f Filter, after *Cursor, limit int) ([]Movement, error)
	// Stream calls visit with all movements of an owner, oldest first and as of one moment, at
	// most limit at a time. A transfer between two wallets of the owner is there for each.
	Stream(ctx context.Context, owner uuid.UUID, limit int, visit func([]Priced) error) error
}

// Priced is a movement with the price of its token at the start of its hour.
type Priced struct {
	Movement
	// Price is zero when the sources had none, and when it is Unread: not stored yet, or to be
	// read again.
	Price  price.Price
	Unread bool
}
