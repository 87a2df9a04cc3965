package balancesync

import (
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// DueQuery selects wallets of a chain that are due for a sync.
type DueQuery struct {
	Chain uint64
	// Shard, from 0, of Shards: wallets are divided by their ids.
	Shard, Shards int
	// SyncedBefore: a wallet is due whose last sync was before it, or, if that
	// failed, whose retry time has come by Now.
	SyncedBefore time.Time
	Now          time.Time
	After        QueuePosition
	Limit        int
}

// QueuePosition is the position of a wallet among those of its chain.
type QueuePosition struct {
	Time time.Time // QueueTime of its sync
	ID   uuid.UUID
}

// QueueTime is what due wallets are ordered by, oldest first: the zero time for
// one that was never tried, else the time of the last sync, or the retry time
// after a failed one. Every try moves a wallet to the end of the queue, so that
// rounds that are cut off don't leave any wallet waiting for ever.
func QueueTime(s wallet.Sync) time.Time {
	at := s.RetryAt
	switch s.State {
	case wallet.Pending:
		at = nil
	case wallet.Synced:
		at = s.At
	}
	if at == nil {
		return time.Time{}
	}
	return *at
}
