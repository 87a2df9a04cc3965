// Package balancesync reads wallets' balances from their chains and stores
// them: one wallet on request ([Service]), all that are due in a job ([Round]).
//
// It promises: all balances of one sync are of one block; a token that could
// not be read keeps its stored balance; a balance is never replaced by that of
// an older block, unless the chain was reset, which the sync says; a zero is stored
// as zero; a sync whose process died counts as failed once its lease has expired. A
// block that no chain can have reached since the last sync is refused, since it would
// keep every later one out. A sync at a block that is older than MaxHeadAge says so:
// it is not the present.
//
// Limits: without a quorum one node is trusted within these bounds; with
// PURSER_CHAIN_QUORUM no single node is.
package balancesync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// retryAfter is when a failed sync may be tried again.
	retryAfter = 30 * time.Second
	// outcomeTimeout is how long the write of a sync's outcome may go on after the
	// caller's context has ended.
	outcomeTimeout = 2 * time.Second
	// defaultSyncTimeout is how long a sync may take whose caller sets no
	// deadline.
	defaultSyncTimeout = time.Minute
)

// Reading is what a chain's node answered about one account.
type Reading struct {
	Block block.Block
	// Amounts in base units, in the order of the tokens that were read; nil for
	// a token that could not be read.
	Amounts []*uint256.Int
	// Disputed says of which of them the nodes of the chain don't agree on the amount, where several have to. Such a
	// token has no amount. It may be shorter than Amounts.
	Disputed []bool
}

// BalanceReader reads the balances of one account; package chain does it over
// JSON-RPC.
type BalanceReader interface {
	// Read returns the balances of holder, all at the newest block. A node whose
	// newest block is below atLeast is used only when no other can be. The error
	// is errs.FailedPrecondition (CHAIN_NOT_CONFIGURED) without a node for the
	// chain, errs.Unavailable (CHAIN_UNAVAILABLE) when no node answers.
	Read(ctx context.Context, chain, atLeast uint64, holder common.Address, tokens []token.Token) (Reading, error)
}

// DiscoveredLister lists what wallets were seen to have moved.
type DiscoveredLister interface {
	// Discovered returns, by wallet, the tokens that were found by its transfers and are
	// not on the token list, the first MaxDiscovered of each wallet and none that looks
	// like spam.
	Discovered(ctx context.Context, wallets []uuid.UUID) (map[uuid.UUID][]token.Token, error)
}

// MaxDiscovered is how many tokens that are not on the token list are read of a wallet:
// anybody may send it any number of them.
const MaxDiscovered = 500

// Store has the wallets and their balances.
type Store interface {
	DiscoveredLister
	ByID(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, error)
	// SaveSync stores the state of a sync. The wallet's version stays.
	SaveSync(ctx context.Context, owner, id uuid.UUID, s wallet.Sync) error
	// SaveBalances stores the sync's outcome, each balance unless a newer
	// block's is stored, and the positions of the markets that were read unless a newer
	// sync is stored, in one transaction.
	SaveBalances(ctx context.Context, owner, id uuid.UUID, b []wallet.Balance, s wallet.Sync,
		positions ...defi.Reading) error
}

// Contracts keeps what is known of tokens' contracts; *token.Checker does. Both
// methods return the tokens with what was found, or as they are without an answer.
type Contracts interface {
	// Check asks those that were not asked for their decimals yet.
	Check(ctx context.Context, chain uint64, tokens []token.Token) []token.Token
	// CheckUnread asks, after a reading, whether the tokens that were not read have a
	// contract.
	CheckUnread(ctx context.Context, chain uint64, tokens []token.Token, unread []bool) []token.Token
}

// Resets recognises chains that were reset; *chainreset.Guard does.
type Resets interface {
	// Check looks at a chain that has come to block at now and then, Look at once. Look reports whether what was read
	// of it was forgotten since a time.
	Check(ctx context.Context, chain, at uint64) chainreset.Verdict
	CheckNow(ctx context.Context, chain uint64, since time.Time) (v chainreset.Verdict, forgotten bool)
	// Last is what the last look found.
	Last(chain uint64) chainreset.Verdict
}

// explain returns the error of a block before the last sync's as that of a chain that was reset, if it looks so.
func explain(err error, v chainreset.Verdict) error {
	if isBehind(err) && v.Suspected() {
		return v.Error(retryAfter)
	}
	return err
}

func isBehind(err error) bool {
	e := errs.As(err)
	return e != nil && e.Reason == "CHAIN_BEHIND"
}

// Service syncs one wallet at a time. It is safe for concurrent use.
type Service struct {
	resets    Resets
	store     Store
	tokens    token.Lister
	contracts Contracts
	reader    BalanceReader
	positions Positions
	now       func() time.Time
}

// NewService returns the rules over a store, the tokens to read, their contracts and a
// reader.
func NewService(s Store, t token.Lister, c Contracts, r BalanceReader, now func() time.Time) *Service {
	return &Service{store: s, tokens: t, contracts: c, reader: r, now: now}
}

// WatchResets has chains that were reset recognised. Call it before Sync.
func (s *Service) WatchResets(r Resets) { s.resets = r }

// errForgotten is about a wallet whose chain was forgotten during its sync.
var errForgotten = errors.New("what was read of the chain was forgotten")

// Sync reads and stores the balances of the owner's wallet, and returns the
// wallet and how many tokens were read. An error is stored as the sync's outcome
// before it is returned.
func (s *Service) Sync(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, int, error) {
	w, n, err := s.sync(ctx, owner, id)
	if errors.Is(err, errForgotten) {
		w, n, err = s.sync(ctx, owner, id)
	}
	if err == nil && s.resets != nil {
		s.resets.Check(ctx, w.Account.Chain, w.Sync.Block)
	}
	return w, n, err
}

// ifReset returns errForgotten for an error of a chain that was reset and is forgotten by now.
func (s *Service) ifReset(ctx context.Context, chain uint64, err error) error {
	if s.resets == nil || !isBehind(err) {
		return err
	}
	before := s.resets.Last(chain)
	v, forgotten := s.resets.CheckNow(ctx, chain, before.ForgottenAt)
	if forgotten {
		return errForgotten
	}
	return explain(err, v)
}

func (s *Service) sync(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, int, error) {
	w, err := s.store.ByID(ctx, owner, id)
	if err != nil {
		return wallet.Wallet{}, 0, err
	}
	if w.ArchivedAt != nil {
		return wallet.Wallet{}, 0, errs.FailedPrecondition("WALLET_ARCHIVED", "the wallet is archived, and is not "+
			"synced; RestoreWallet brings it back")
	}
	tokens, err := token.ListAll(ctx, s.tokens, w.Account.Chain)
	if err != nil {
		return wallet.Wallet{}, 0, err
	}
	w.Sync.State, w.Sync.RetryAt = wallet.Syncing, leaseUntil(ctx, s.now())
	if err := s.store.SaveSync(ctx, owner, id, w.Sync); err != nil {
		return wallet.Wallet{}, 0, err
	}
	tokens = s.contracts.Check(ctx, w.Account.Chain, tokens)
	discovered, err := s.store.Discovered(ctx, []uuid.UUID{id})
	if err != nil {
		return wallet.Wallet{}, 0, s.saveFailure(ctx, w, err)
	}
	tokens = append(tokens, discovered[id]...)
	reading, err := s.reader.Read(ctx, w.Account.Chain, w.Sync.Block, w.Account.Address, tokens)
	if err != nil {
		return wallet.Wallet{}, 0, s.saveFailure(ctx, w, err)
	}
	if len(reading.Amounts) == len(tokens) {
		tokens = s.contracts.CheckUnread(ctx, w.Account.Chain, tokens, unreadOf(tokens, reading))
	}
	balances, gaps, err := checkReading(w, reading, tokens)
	if err = s.ifReset(ctx, w.Account.Chain, err); errors.Is(err, errForgotten) {
		return wallet.Wallet{}, 0, err
	} else if err != nil {
		return wallet.Wallet{}, 0, s.saveFailure(ctx, w, err)
	}
	synced := syncedState(w.Sync, reading.Block, gaps, s.now())
	positions := readPositions(ctx, s.positions, w.Account.Chain, reading.Block, w)[0]
	if err := s.store.SaveBalances(ctx, owner, id, balances, synced, positions...); err != nil {
		return wallet.Wallet{}, 0, s.saveFailure(ctx, w, err)
	}
	w.Sync = synced
	return w, len(balances), nil
}

// leaseUntil returns when a sync of this call has certainly ended, the write of
// its outcome included: its process has died if it is still under way then.
func leaseUntil(ctx context.Context, now time.Time) *time.Time {
	timeout := defaultSyncTimeout
	if left, ok := deadline.Remaining(ctx); ok {
		timeout = left
	}
	until := now.Add(timeout + 3*outcomeTimeout).UTC()
	return &until
}

// Bounds of how fast a chain grows, far above any known one: between two syncs
// maxExtraBlocks, and maxBlocksPerSecond of the time between their blocks.
const (
	maxBlocksPerSecond = 200
	maxExtraBlocks     = 10_000
)

// isReset reports whether the chain no longer has the block of the last sync: its
// newest block has a lower number and a later time, which no chain can have that grew
// from that block. So it is after a reset of a chain for development, and for a
// moment after a reorg.
func isReset(last wallet.Sync, b block.Block) bool {
	return last.At != nil && b.Number < last.Block && b.Time.After(*last.At)
}

// checkPlausible returns an error for a block that can't come after the last
// sync's: one before it, or one that the chain can't have reached since. A
// wallet whose first sync met a made-up block can be deleted and added again.
func checkPlausible(w wallet.Wallet, b block.Block) error {
	last := w.Sync
	if last.At == nil || isReset(last, b) {
		return nil
	}
	if b.Number < last.Block {
		return errs.Unavailable("CHAIN_BEHIND",
			fmt.Sprintf("no node has come to block %d, of the last sync: the newest is block %d, of %s; the wallet "+
				"is synced again once one has; if none will, since the chain went back to an earlier state, the "+
				"command \"wallet reset-chain %s\" forgets what was read of it", last.Block, b.Number,
				b.Time.UTC().Format(time.RFC3339), caip.ChainID(w.Account.Chain))).After(retryAfter)
	}
	elapsed := max(0, b.Time.Sub(*last.At))
	if b.Number-last.Block > maxExtraBlocks+maxBlocksPerSecond*uint64(elapsed/time.Second) {
		return errs.Unavailable("CHAIN_IMPLAUSIBLE",
			fmt.Sprintf("the node says block %d, which the chain can't have reached since block %d", b.Number,
				last.Block)).After(retryAfter)
	}
	return nil
}

// unreadOf reports which of the tokens none of the readings of them has. One that is disputed is taken for read: it
// has an answer.
func unreadOf(tokens []token.Token, readings ...Reading) []bool {
	unread := make([]bool, len(tokens))
	for i := range tokens {
		unread[i] = !slices.ContainsFunc(readings, func(r Reading) bool {
			return i < len(r.Amounts) && r.Amounts[i] != nil || i < len(r.Disputed) && r.Disputed[i]
		})
	}
	return unread
}

// gaps are the symbols of the tokens of which a sync has no amount.
type gaps struct {
	unread   []string // that could not be read
	disputed []string // on whose amount the nodes don't agree
}

func (g gaps) any() bool { return len(g.unread)+len(g.disputed) > 0 }

// checkReading returns the balances of a reading, and of which tokens there are none; a
// token without a contract is not among them. It is an error when the block is not
// plausible or the reading is not of these tokens.
func checkReading(w wallet.Wallet, r Reading, tokens []token.Token) (balances []wallet.Balance, missing gaps,
	err error) {
	if err := checkPlausible(w, r.Block); err != nil {
		return nil, gaps{}, err
	}
	if len(r.Amounts) != len(tokens) {
		return nil, gaps{}, fmt.Errorf("read %d balances of %d", len(r.Amounts), len(tokens))
	}
	for i, t := range tokens {
		if r.Amounts[i] != nil {
			balances = append(balances, wallet.Balance{Token: t, Amount: *r.Amounts[i], Block: r.Block})
			continue
		}
		switch {
		case t.WithoutCode, t.Discovered: // whoever sends one must not make the wallet incomplete
		case i < len(r.Disputed) && r.Disputed[i]:
			missing.disputed = append(missing.disputed, t.Symbol)
		default:
			missing.unread = append(missing.unread, t.Symbol)
		}
	}
	return balances, missing, nil
}

// MaxHeadAge is how old the block of a sync may be: a chain without a newer one has
// stopped, or its node has.
const MaxHeadAge = time.Hour

// syncedState is the state after a successful sync.
func syncedState(last wallet.Sync, b block.Block, missing gaps, now time.Time) wallet.Sync {
	s := wallet.Sync{State: wallet.Synced, Block: b.Number, At: &b.Time}
	if last.At != nil {
		s.Last = &wallet.Success{Block: last.Block, At: *last.At}
	}
	var faults []string
	if isReset(last, b) {
		faults = append(faults, fmt.Sprintf("the chain was reset: it is at block %d, of %s, and was at block %d of %s",
			b.Number, b.Time.Format(time.RFC3339), last.Block, last.At.UTC().Format(time.RFC3339)))
	}
	if age := now.Sub(b.Time); age > MaxHeadAge {
		faults = append(faults, fmt.Sprintf("the newest block of the node, %d, is of %s, %s ago", b.Number,
			b.Time.Format(time.RFC3339), age.Round(time.Minute)))
	}
	if len(missing.disputed) > 0 {
		faults = append(faults, "the nodes of the chain don't agree on: "+strings.Join(missing.disputed, ", "))
	}
	if len(missing.unread) > 0 {
		faults = append(faults, "not readable: "+strings.Join(missing.unread, ", "))
	}
	s.Error = strings.Join(faults, "; ")
	if isReset(last, b) {
		s.Reason = "CHAIN_RESET"
	}
	return s
}

// failedState is the state after a failed sync. The block and time of the last
// success stay.
func failedState(last wallet.Sync, cause error, now time.Time) wallet.Sync {
	retryAt := now.Add(retryAfter).UTC()
	text, reason := "internal error", ""
	if e := errs.As(cause); e != nil {
		text, reason = e.Message, e.Reason
	} else if errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled) {
		text = "the call ended before the sync did"
	}
	last.State, last.Error, last.Reason, last.RetryAt = wallet.Failed, text, reason, &retryAt
	return last
}

// saveFailure stores cause as the outcome of w's sync, and returns it.
func (s *Service) saveFailure(ctx context.Context, w wallet.Wallet, cause error) error {
	ctx, cancel := deadline.Grace(ctx, outcomeTimeout)
	defer cancel()
	if err := s.store.SaveSync(ctx, w.Owner, w.ID, failedState(w.Sync, cause, s.now())); err != nil {
		return fmt.Errorf("%w (and its outcome could not be stored: %w)", cause, err)
	}
	return cause
}
