// Package wallet has the rules of the wallets that users watch.
package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// MaxLabel is how many characters a label may have.
const MaxLabel = 80

// SyncState of a wallet's balances.
type SyncState string

// The states.
const (
	Pending SyncState = "PENDING" // never synced
	Syncing SyncState = "SYNCING"
	Synced  SyncState = "SYNCED"
	Failed  SyncState = "FAILED"
)

// Sync says how fresh a wallet's balances are.
type Sync struct {
	State SyncState
	Block uint64     // of the last success, 0 before the first
	At    *time.Time // of the last success
	Error string
	// Reason is the code of the error of a failed sync, empty of an internal one; CHAIN_RESET also of one that
	// succeeded after a reset.
	Reason string
	// RetryAt is when a failed sync may be tried again; while one is under way,
	// when its lease expires.
	RetryAt *time.Time
	// Last is the success before a sync that succeeded, as that knew it when it began.
	// It isn't stored.
	Last *Success
}

// Success is the block of a sync that succeeded.
type Success struct {
	Block uint64
	At    time.Time
}

// expiredLeaseError is the error of a sync whose process ended before it did.
const expiredLeaseError = "the sync ended without an outcome"

// AsOf returns s as it is at t: a sync under way whose lease has expired has
// failed.
func (s Sync) AsOf(t time.Time) Sync {
	switch {
	case s.State != Syncing || s.RetryAt == nil:
	case t.Before(*s.RetryAt):
		s.RetryAt = nil
	default:
		s.State, s.Error = Failed, expiredLeaseError
	}
	return s
}

// Wallet is a chain account that a user watches.
type Wallet struct {
	ID        uuid.UUID
	Owner     uuid.UUID
	Account   caip.Account
	Label     string
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
	Sync      Sync
	// ArchivedAt is since when the wallet is archived; nil when it is not.
	ArchivedAt *time.Time
	// Proof that the account is the owner's; nil when it is only watched.
	Proof *Proof
	// Balances above zero by token id, where the caller asked for them.
	Balances []Balance
	// WithoutBalances: they were asked for and are not there, since they would be too
	// many together with those of the wallets before.
	WithoutBalances bool
}

// Proof is how and when an owner has proved that an account is theirs.
type Proof struct {
	By ProofBy
	At time.Time
}

// ProofBy is what has signed for the owner.
type ProofBy string

// The account's key, its contract, or either of them to auth.
const (
	ByKey      ProofBy = "KEY"
	ByContract ProofBy = "CONTRACT"
	ByIdentity ProofBy = "IDENTITY"
)

// ETag changes whenever the wallet's own fields do.
func (w Wallet) ETag() string { return strconv.FormatInt(w.Version, 36) }

// Balance is how much of a token a wallet held at a block.
type Balance struct {
	Token  token.Token
	Amount uint256.Int // base units
	Block  block.Block
	// Imported: no chain told it, and of Block only Time is set.
	Imported bool
	// Receipt: one of the wallet's positions stands for it.
	Receipt bool
}

// MaxListedBalances is how many balances a list of wallets has at most. That bounds
// the memory of a call; a page ends by its bytes at about twice as many.
const MaxListedBalances = 4000

// Listing selects what a list of wallets has.
type Listing struct {
	// Balances: with their balances.
	Balances bool
	// Archived: archived wallets too.
	Archived bool
}

// Removed is how much was removed with a wallet.
type Removed struct {
	Balances        int64 // current ones
	HistoryHours    int64
	HistoryBalances int64 // changes in those hours
	Transactions    int64 // adjustments included
}

// ErrUnchanged is returned by a change of a wallet that has nothing to change.
var ErrUnchanged = errors.New("the wallet is as it should be")

// Store has the wallets. Every method takes the owner: another owner's wallet is
// not found. A method that takes a request, which may be nil, returns what it returned
// for an earlier one with the same id, or errs.Invalid on request_id when that was
// another request.
type Store interface {
	// Create stores w. errs.AlreadyExists (WALLET_EXISTS) when the owner has the account;
	// errs.Exhausted (TOO_MANY_WALLETS) when they have limit wallets.
	Create(ctx context.Context, w Wallet, limit int, r *requests.Request) (Wallet, error)
	ByID(ctx context.Context, owner, id uuid.UUID) (Wallet, error)
	// List returns up to limit wallets with ids above after, in order. With balances
	// they are so few that their balances are MaxListedBalances at most; one more
	// follows them WithoutBalances if there are more.
	List(ctx context.Context, owner, after uuid.UUID, limit int, l Listing) ([]Wallet, error)
	// Update stores what change makes of the wallet, while nobody else changes it, and
	// increments its version. With ErrUnchanged the wallet stays, and is returned; with
	// another error it stays too.
	Update(ctx context.Context, owner, id uuid.UUID, r *requests.Request, change func(*Wallet) error) (Wallet, error)
	// Delete removes the wallet and all that is stored of it if its version is still this
	// one; 0 for any. errs.Conflict (ETAG_MISMATCH) otherwise.
	Delete(ctx context.Context, owner, id uuid.UUID, version int64, r *requests.Request) (Removed, error)
	// Balances returns up to limit balances with token ids above after.
	Balances(ctx context.Context, owner, id uuid.UUID, after string, limit int) ([]Balance, error)
}

// Service is the rules over a store.
type Service struct {
	store  Store
	chains []uint64
	limit  int
	now    func() time.Time
}

// NewService returns the rules. chains are those that balances can be read from, in
// order; limit is how many wallets an owner may have, archived ones included.
func NewService(s Store, chains []uint64, limit int, now func() time.Time) *Service {
	return &Service{store: s, chains: chains, limit: limit, now: now}
}

// Creation is a request for a wallet.
type Creation struct {
	Account, Label string
	// RequestID is the caller's; uuid.Nil for none.
	RequestID uuid.UUID
	// AllowUnconfiguredChain: the account may be of a chain without a node.
	AllowUnconfiguredChain bool
}

// Check returns errs.Invalid with every mistake in a request for a wallet.
func (c Creation) Check() error {
	_, _, err := c.parse()
	return err
}

func (c Creation) parse() (a caip.Account, label string, err error) {
	a, err = caip.ParseAccount(c.Account)
	if err != nil {
		err = errs.Invalid("account", err.Error())
	}
	label, labelErr := cleanLabel(c.Label)
	return a, label, errs.AllInvalid(err, labelErr)
}

// Create adds an account to the owner's wallets. A call with the RequestID of an
// earlier one returns that one's wallet. errs.FailedPrecondition
// (CHAIN_NOT_CONFIGURED).
func (s *Service) Create(ctx context.Context, owner uuid.UUID, c Creation) (Wallet, error) {
	a, label, err := c.parse()
	if err != nil {
		return Wallet{}, err
	}
	if !c.AllowUnconfiguredChain && !slices.Contains(s.chains, a.Chain) {
		return Wallet{}, s.unconfigured(a.Chain)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Wallet{}, fmt.Errorf("new wallet id: %w", err)
	}
	// Microseconds, as the database keeps them: what is returned now is what
	// will be read later.
	now := s.now().UTC().Truncate(time.Microsecond)
	w := Wallet{
		ID: id, Owner: owner, Account: a, Label: label, Version: 1,
		CreatedAt: now, UpdatedAt: now, Sync: Sync{State: Pending},
	}
	return s.store.Create(ctx, w, s.limit, requests.New(c.RequestID, "CreateWallet", a.String(), label))
}

// unconfigured is the error of a chain that the deployment has no node of; it names
// those that it has.
func (s *Service) unconfigured(chain uint64) error {
	ids := make([]string, len(s.chains))
	for i, c := range s.chains {
		ids[i] = caip.ChainID(c)
		if name, _ := caip.ChainName(c); name != "" {
			ids[i] += " (" + name + ")"
		}
	}
	have := "it has none at all"
	if len(ids) > 0 {
		have = "it has " + strings.Join(ids, ", ")
	}
	plain := make([]string, len(s.chains))
	for i, c := range s.chains {
		plain[i] = caip.ChainID(c)
	}
	return errs.FailedPrecondition("CHAIN_NOT_CONFIGURED", fmt.Sprintf("this deployment has no node of chain %s, "+
		"so that "+
		"no balance of the account can be read; %s; set allow_unconfigured_chain to add the wallet all the same",
		caip.ChainID(chain), have)).With("configured_chains", strings.Join(plain, ","))
}

// ByID returns one of the owner's wallets.
func (s *Service) ByID(ctx context.Context, owner, id uuid.UUID) (Wallet, error) {
	w, err := s.store.ByID(ctx, owner, id)
	w.Sync = w.Sync.AsOf(s.now())
	return w, err
}

// List returns up to limit of the owner's wallets, oldest first, after the
// one with id after.
func (s *Service) List(ctx context.Context, owner, after uuid.UUID, limit int, l Listing) ([]Wallet, error) {
	wallets, err := s.store.List(ctx, owner, after, limit, l)
	for i := range wallets {
		wallets[i].Sync = wallets[i].Sync.AsOf(s.now())
	}
	return wallets, err
}

// Balances returns up to limit balances of the owner's wallet, by token id.
func (s *Service) Balances(ctx context.Context, owner, id uuid.UUID, after string, limit int) ([]Balance, error) {
	return s.store.Balances(ctx, owner, id, after, limit)
}

// NewLabel returns a label as it is stored. errs.Invalid for an empty one too.
func NewLabel(label string) (string, error) {
	label, err := cleanLabel(label)
	if err == nil && label == "" {
		err = errs.Invalid("label", "must have a character that is no white space")
	}
	return label, err
}

func cleanLabel(label string) (string, error) {
	label = strings.TrimSpace(label)
	if utf8.RuneCountInString(label) > MaxLabel {
		return "", errs.Invalid("label", fmt.Sprintf("must have at most %d characters, got %d", MaxLabel,
			utf8.RuneCountInString(label)))
	}
	if strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errs.Invalid("label", "must not contain control characters such as line breaks and "+
			"tabs, "+errs.Given(label))
	}
	return label, nil
}
