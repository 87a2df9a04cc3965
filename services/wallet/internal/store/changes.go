package store

import (
	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// WakeAfterCommit has wake called after each commit of a change, for the readers of the feed. Call it before s is
// used.
func (s *Wallets) WakeAfterCommit(wake func()) { s.wake = wake }

// note adds a change of a wallet to the feed.
func note(tx *gorm.DB, kind string, owner, id uuid.UUID) error {
	return feed.Append(tx, feed.Change{Kind: kind, Owner: owner, Subject: id})
}

// changedWallet is a wallet whose stored amounts became others, or its first ones.
type changedWallet struct {
	ID    uuid.UUID
	Block int64
}

// noteBalances adds the changes of a sync to the feed: one for each wallet.
func noteBalances(tx *gorm.DB, changed []changedWallet, ownerOf func(id uuid.UUID) uuid.UUID) error {
	changes := make([]feed.Change, len(changed))
	for i, c := range changed {
		changes[i] = feed.Change{Kind: wallet.BalancesChanged, Owner: ownerOf(c.ID), Subject: c.ID, Version: c.Block}
	}
	return feed.Append(tx, changes...)
}

// notePrices adds changes of prices to the feed: one for each token and each stretch of hours, however many prices
// changed. Nobody waits for them, so no reader is woken.
func notePrices(tx *gorm.DB, ranges []price.HourRange) error {
	joined := price.Joined(ranges)
	changes := make([]feed.Change, len(joined))
	for i, r := range joined {
		changes[i] = feed.Change{Kind: wallet.PricesChanged, Detail: r.String()}
	}
	return feed.Append(tx, changes...)
}
