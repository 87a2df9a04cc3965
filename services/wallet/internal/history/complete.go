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
	// long it reads missing prices after that; readShare and priceShare are their
	// shares of the caller's time if that is short.
	readBudget, priceBudget = 4 * time.Second, 2 * time.Second
	readShare, priceShare   = 0.5, 0.25
	// retryAfter is when tokens that could not be read, and prices that the source
	// did not have, are tried again.
	retryAfter = 10 * time.Minute
	// writeTimeout bounds the write of what was read, which is made even after
	// the caller's context has ended.
	writeTimeout = 3 * time.Second
)

// deadlines are when the parts of one call end.
type deadlines struct{ read, price time.Time }

func newDeadlines(ctx context.Context) deadlines {
	read := time.Now().Add(deadline.Budget(ctx, readShare, readBudget))
	return deadlines{read: read, price: read.Add(deadline.Budget(ctx, priceShare, priceBudget))}
}

// ownerWallets are an owner's wallets, by id, and the tokens of their chains.
type ownerWallets struct {
	owner  uuid.UUID
	all    []wallet.Wallet
	tokens map[uint64][]token.Token // by chain
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
	return ownerWallets{owner: owner, all: all, tokens: tokens}, nil
}

// hourSet is a set of wallets' hours.
type hourSet map[WalletHour]bool

// missingHours returns the hours of a span that known lacks for at least one of
// the wallets.
func missingHours(wallets []wallet.Wallet, sp span, known hourSet) []time.Time {
	return slices.DeleteFunc(sp.hours(), func(hour time.Time) bool {
		missing := func(w wallet.Wallet) bool { return !known[WalletHour{w.ID, hour.Unix()}] }
		return !slices.ContainsFunc(wallets, missing)
	})
}

// completeUntil returns the first missing hour of a span, or its end.
func completeUntil(wallets []wallet.Wallet, sp span, known hourSet) time.Time {
	if missing := missingHours(wallets, sp, known); len(missing) > 0 {
		return missing[0]
	}
	return sp.until
}

// needsNoReading reports whether the hour of a record need not be read again: its
// block was final, the chain has no more tokens than then, and all of them could
// be read, or have been tried less than retryAfter ago.
func (r Record) needsNoReading(tokenCount int, now time.Time) bool {
	final := !r.ReadAt.Before(time.Unix(r.Hour, 0).Add(block.FinalAfter))
	return final && r.TokenCount >= tokenCount && (r.Unread == "" || now.Sub(r.ReadAt) < retryAfter)
}

// knownHours returns the hours of a span that need not be read.
func (s *Service) knownHours(ctx context.Context, wallets ownerWallets, sp span) (hourSet, error) {
	records, err := s.store.Records(ctx, wallets.owner, sp.from, sp.until)
	if err != nil {
		return nil, err
	}
	tokenCounts := map[uuid.UUID]int{}
	for _, w := range wallets.all {
		tokenCounts[w.ID] = len(wallets.tokens[w.Account.Chain])
	}
	now := s.now()
	known := hourSet{}
	for _, r := range records {
		if r.needsNoReading(tokenCounts[r.Wallet], now) {
			known[r.WalletHour] = true
		}
	}
	return known, nil
}

// completion is what is known of a span after what was missing has been read.
type completion struct {
	until  time.Time             // the hours before it can be returned
	errors map[WalletHour]string // of hours that can't be read
	saved  bool                  // balances were stored
}

// complete reads what is missing of a span, and stores it. The prices of an hour
// that is continued are read only if new balances were; earlier pages have tried
// the others. The error says why no hour is complete; there may be none.
func (s *Service) complete(ctx context.Context, wallets ownerWallets, lock *ownerLock, ends deadlines, sp span,
	continued bool, done progress) (completion, error) {
	none := completion{until: sp.from}
	known, err := s.knownHours(ctx, wallets, sp)
	if err != nil {
		return none, err
	}
	read, readErr := s.readMissing(ctx, wallets, lock, ends, sp, known)
	until := completeUntil(wallets.all, sp, read.known)
	if !until.After(sp.from) {
		return none, readErr
	}
	done.saved = done.saved || read.saved
	if !continued || done.saved {
		priced, err := s.priceMissing(ctx, wallets.owner, lock, ends, span{sp.from, until})
		if err != nil || !priced.mayReturn(done) {
			return none, err
		}
	}
	return completion{until: until, errors: read.errors, saved: read.saved}, nil
}

// readMissing reads the missing balances of a span until the read deadline. It
// takes the owner's lock if there are any.
func (s *Service) readMissing(ctx context.Context, wallets ownerWallets, lock *ownerLock, ends deadlines, sp span,
	known hourSet) (readResult, error) {
	nothing := readResult{known: known}
	ctx, cancel := context.WithDeadline(ctx, ends.read)
	defer cancel()
	missing := missingHours(wallets.all, sp, known)
	if len(missing) == 0 || ctx.Err() != nil {
		return nothing, nil
	}
	if err := lock.acquire(ctx); err != nil {
		return nothing, err
	}
	return newReader(s, wallets, sp, known).read(ctx, missing)
}
