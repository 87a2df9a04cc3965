// Package importing takes balances and transactions that no node tells of: those of
// wallets on chains without a node, and of times before a wallet's chain was first read.
//
// It promises: what was read from a chain is never changed by an import. Every imported
// record of a wallet's token is before the first that the chain tells of; a row that is
// not is refused, and when the chain comes to tell of an earlier time, what was imported
// from there on is removed in the same transaction. So the movements of a token still add
// up to its balance, as package transaction promises. A row is stored once, however often
// and by how many callers at once it is sent. A row that breaks a rule fails by itself.
//
// Limits: accounts are those of EVM chains, so an account off chain is imported as a
// wallet on a chain that has no node. Tokens have to be known to the deployment: decimals
// are everybody's, and no caller may set them.
package importing

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// MaxRows is how many rows one import has at most.
	MaxRows = 1000
	// MaxStored is how many balances, and how many transactions, may be imported for a wallet.
	MaxStored = 100_000
)

// BalanceInput is a row with a balance, as it was given.
type BalanceInput struct{ Token, Amount, Time string }

// TransactionInput is a row with a movement, as it was given.
type TransactionInput struct {
	ID, Token, Kind, Direction, Amount, Time, Counterparty, Hash string
}

// Balance is a row that keeps the rules.
type Balance struct {
	Row    int // from 1
	Token  string
	Amount uint256.Int
	At     time.Time
}

// Transaction is a row that keeps the rules.
type Transaction struct {
	Row          int // from 1
	ID           string
	Token        string
	Kind         transaction.Kind
	Out          bool
	Amount       uint256.Int
	At           time.Time
	Counterparty string // an address in lower case, or ""
	Hash         []byte // of a transaction, or empty
}

// Failure is a row that broke a rule.
type Failure struct {
	Row                int // from 1
	Field, Given, Rule string
}

// Result says what became of the rows.
type Result struct {
	Stored, Replaced, Unchanged int
	Failures                    []Failure
}

// Store keeps imports. A method returns what it returned for an earlier call with the same
// request, or errs.Invalid on request_id when that was another one. The failures are part of
// the result, in the order of their rows with those that the store finds.
// errs.Exhausted (TOO_MANY_IMPORTED_ROWS).
type Store interface {
	ByID(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, error)
	ImportBalances(ctx context.Context, owner, id uuid.UUID, rows []Balance, failures []Failure,
		r *requests.Request) (Result, error)
	ImportTransactions(ctx context.Context, owner, id uuid.UUID, rows []Transaction, failures []Failure,
		r *requests.Request) (Result, error)
}

// Service imports. It is safe for concurrent use.
type Service struct {
	store Store
	now   func() time.Time
}

// NewService returns the rules over a store.
func NewService(s Store, now func() time.Time) *Service { return &Service{store: s, now: now} }

// Balances imports balances of the owner's wallet. errs.NotFound; errs.Invalid on request_id.
func (s *Service) Balances(ctx context.Context, owner, id uuid.UUID, rows []BalanceInput, request uuid.UUID) (Result,
	error) {
	w, err := s.check(ctx, owner, id, "balances", len(rows))
	if err != nil {
		return Result{}, err
	}
	c := checker{chain: w.Account.Chain, now: s.now()}
	var ok []Balance
	for i, in := range rows {
		if b, valid := c.balance(i+1, in); valid {
			ok = append(ok, b)
		}
	}
	return s.store.ImportBalances(ctx, owner, id, ok, c.failures,
		requests.New(request, "ImportBalances", id.String(), fmt.Sprintf("%q", rows)))
}

// Transactions imports movements of the owner's wallet; errors as Balances.
func (s *Service) Transactions(ctx context.Context, owner, id uuid.UUID, rows []TransactionInput,
	request uuid.UUID) (Result, error) {
	w, err := s.check(ctx, owner, id, "transactions", len(rows))
	if err != nil {
		return Result{}, err
	}
	c := checker{chain: w.Account.Chain, now: s.now()}
	var ok []Transaction
	for i, in := range rows {
		if t, valid := c.transaction(i+1, in); valid {
			ok = append(ok, t)
		}
	}
	return s.store.ImportTransactions(ctx, owner, id, ok, c.failures,
		requests.New(request, "ImportTransactions", id.String(), fmt.Sprintf("%q", rows)))
}

func (s *Service) check(ctx context.Context, owner, id uuid.UUID, field string, rows int) (wallet.Wallet, error) {
	if rows > MaxRows {
		return wallet.Wallet{}, errs.Invalid(field, fmt.Sprintf("must have at most %d rows, got %d", MaxRows, rows))
	}
	return s.store.ByID(ctx, owner, id)
}

// Position is the place of an imported record among the blocks of its wallet: a number
// below zero, so before every block, and in the order of the times, which are in whole
// microseconds.
func Position(at time.Time) int64 { return at.UnixMicro() - 1<<62 }

// Known is what the store knows of a token of a row.
type Known struct {
	// Token: the deployment knows the token.
	Token bool
	// Since is the first time that the chain tells of the wallet's token; zero if it never did.
	Since time.Time
}

// Refuse returns why a row of a token at a time can't be stored; nil if it can.
func (k Known) Refuse(row int, token string, at time.Time) *Failure {
	switch {
	case !k.Token:
		return &Failure{row, "token_id", errs.Given(token), "must be a token that this deployment knows, one of " +
			"ListTokens or one that a transfer was found of: have it added to the token list (PURSER_TOKEN_LIST)"}
	case !k.Since.IsZero() && !at.Before(k.Since):
		return &Failure{row, "time", errs.Given(at.UTC().Format(time.RFC3339Nano)), "must be before " +
			k.Since.UTC().Format(time.RFC3339Nano) + ", from when on the chain tells of this token of the " +
			"wallet: an import changes nothing that was read from a chain"}
	}
	return nil
}
