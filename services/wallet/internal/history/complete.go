package history

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// readBudget is how long one call reads missing balances, and priceBudget how
	// long it reads missing prices after that. readShare and priceShare are the
	// fractions of the caller's remaining time that are used instead when they are
	// less.
	readBudget, priceBudget = 4 * time.Second, 2 * time.Second
	readShare, priceShare   = 0.5, 0.25
	// retryAfter is how long after the last attempt a token that could not be read,
	// or a price that the source did not have, is requested again.
	retryAfter = 10 * time.Minute
	// writeGrace is how long the write of what was read may go on after the call has ended. A database that is slow
	// has all of the call's time.
	writeGrace = 3 * time.Second
)

// deadlines are when the parts of one call end.
type deadlines struct{ read, price time.Time }

func newDeadlines(ctx context.Context) deadlines {
	read := time.Now().Add(deadline.Budget(ctx, readShare, readBudget))
	return deadlines{read: read, price: read.Add(deadline.Budget(ctx, priceShare, priceBudget))}
}

// ownerWallets are an owner's wallets, by id, and the tokens of their chains, in one
// call.
type ownerWallets struct {
	owner  uuid.UUID
	all    []wallet.Wallet
	tokens map[uint64][]token.Token // by chain
	// positions has the markets; nil without any.
	positions Positions
	failed    *chainErrors
}

func (s *Service) ownerWallets(ctx context.Context, owner uuid.UUID) (ownerWallets, error) {
	all, err := s.store.Wallets(ctx, owner)
	if err != nil {
		return ownerWallets{}, err
	}
	tokens := map[uint64][]token.Token{}
	for _, w := range all {
		chain := w.Account.Chain
		if _, listed := tokens[chain]; listed {
			continue
		}
		if tokens[chain], err = token.ListAll(ctx, s.tokens, chain); err != nil {
			return ownerWallets{}, err
		}
	}
	return ownerWallets{owner: owner, all: all, tokens: tokens, positions: s.positions,
		failed: &chainErrors{byChain: map[uint64]error{}}}, nil
}

// assets is how many tokens and markets of a chain are read.
func (w ownerWallets) assets(chain uint64) int {
	n := len(w.tokens[chain])
	if w.positions != nil {
		n += w.positions.Markets(chain)
	}
	return n
}

// hourSet is a set of wallets' hours.
type hourSet map[WalletHour]bool

// missingHours returns the hours of a span that are not done for at least one of
// the wallets.
func missingHours(wallets []wallet.Wallet, sp span, done hourSet) []time.Time {
	return slices.DeleteFunc(sp.hours(), func(hour time.Time) bool {
		missing := func(w wallet.Wallet) bool { return !done[WalletHour{w.ID, hour.Unix()}] }
		return !slices.ContainsFunc(wallets, missing)
	})
}

// completeUntil returns the first missing hour of a span, or its end.
func completeUntil(wallets []wallet.Wallet, sp span, done hourSet) time.Time {
	if missing := missingHours(wallets, sp, done); len(missing) > 0 {
		return missing[0]
	}
	return sp.until
}

// upToDate reports whether the hour of a record need not be read again: its block was final, the chain has no more
// tokens and markets than then, and all of them could be read, or the last attempt was less than retryAfter ago.
func (r Record) upToDate(assetCount int, now time.Time) bool {
	final := !r.ReadAt.Before(time.Unix(r.Hour, 0).Add(block.FinalAfter))
	whole := r.Unread == "" && !r.MarketsUnread
	return final && r.AssetCount >= assetCount && (whole || now.Sub(r.ReadAt) < retryAfter)
}

// doneHours returns the hours of a span that need no further read.
func (s *Service) doneHours(ctx context.Context, wallets ownerWallets, sp span) (hourSet, error) {
	records, err := s.store.Records(ctx, wallets.owner, sp.from, sp.until)
	if err != nil {
		return nil, err
	}
	assetCounts := map[uuid.UUID]int{}
	for _, w := range wallets.all {
		assetCounts[w.ID] = wallets.assets(w.Account.Chain)
	}
	now := s.now()
	done := make(hourSet, len(records))
	for _, r := range records {
		if r.upToDate(assetCounts[r.Wallet], now) {
			done[r.WalletHour] = true
		}
	}
	return done, nil
}

// spanBalances is what is known of the balances of a span.
type spanBalances struct {
	readResult
	until time.Time // the first hour that is not complete; the end of the span if all are
	err   error     // why an hour is not complete; nil if time ran out
}

// readSpan reads what is missing of the balances of a span, and stores it.
func (s *Service) readSpan(ctx context.Context, wallets ownerWallets, lock *ownerLock, ends deadlines,
	sp span) spanBalances {
	done, err := s.doneHours(ctx, wallets, sp)
	if err != nil {
		return spanBalances{until: sp.from, err: err}
	}
	read, err := s.readMissing(ctx, wallets, lock, ends, sp, done)
	return spanBalances{readResult: read, until: completeUntil(wallets.all, sp, read.done), err: err}
}

// completion is the result of complete.
type completion struct {
	until  time.Time             // the hours before it can be returned
	errors map[WalletHour]string // of hours that can't be read
	saved  bool                  // balances were stored
}

// pricedSpan is a span whose balances and prices were read.
type pricedSpan struct {
	spanBalances
	from   time.Time // the start of the span
	prices priceResult
	// priceErr is why no prices could be read; not that of the source.
	priceErr error
}

// priceSpan reads the missing prices of a span, whose balances were read, and stores them. If an earlier page already
// returned rows of this hour (continued), its prices are read only when new balances were stored.
func (s *Service) priceSpan(ctx context.Context, owner uuid.UUID, lock *ownerLock, ends deadlines, sp span,
	read spanBalances, continued bool) pricedSpan {
	p := pricedSpan{spanBalances: read, from: sp.from}
	if read.until.After(sp.from) && (!continued || read.saved) {
		p.prices, p.priceErr = s.priceMissing(ctx, owner, lock, ends, span{sp.from, read.until})
	}
	return p
}

// complete says which hours of the span can be returned, by a call that has made this progress before it.
//
// If no hour can, the completion's until is the start of the span. The error is the cause then, or nil if time ran
// out.
func (p pricedSpan) complete(sofar progress) (completion, error) {
	none := completion{until: p.from}
	if !p.until.After(p.from) {
		return none, p.err
	}
	sofar.saved = sofar.saved || p.saved
	if p.priceErr != nil || !p.prices.mayReturn(sofar) {
		return none, p.priceErr
	}
	return completion{until: p.until, errors: p.errors, saved: p.saved}, nil
}

// readMissing reads the missing balances of a span until the read deadline. It
// acquires the owner's lock if there are any.
func (s *Service) readMissing(ctx context.Context, wallets ownerWallets, lock *ownerLock, ends deadlines, sp span,
	done hourSet) (readResult, error) {
	nothing := readResult{done: done}
	limited, cancel := context.WithDeadline(ctx, ends.read)
	defer cancel()
	missing := missingHours(wallets.all, sp, done)
	if len(missing) == 0 || limited.Err() != nil {
		return nothing, nil
	}
	if err := lock.acquire(limited); err != nil {
		return nothing, err
	}
	write := func(hours []HourBalances) error {
		finishing, cancel := deadline.Grace(ctx, writeGrace)
		defer cancel()
		return s.store.SaveBalances(finishing, hours)
	}
	return newReader(s, wallets, sp, done, write).read(limited, missing)
}
