package rpc

import (
	"context"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/bucket"
)

// Limits are those on how often an owner may have a node called.
type Limits struct {
	Calls *bucket.Limiter
	// SyncsPerMinute is how many calls of SyncWallet an owner has in a minute.
	SyncsPerMinute int
}

// takeSync charges a call of SyncWallet. The error is errs.Exhausted (TOO_MANY_SYNCS).
func (l Limits) takeSync(ctx context.Context, owner uuid.UUID) error {
	wait := l.Calls.Take(ctx, bucket.Bucket{Kind: "sync", Key: owner.String(), PerMinute: l.SyncsPerMinute})
	if wait == 0 {
		return nil
	}
	return errs.Exhausted("TOO_MANY_SYNCS", fmt.Sprintf("SyncWallet can be called %d times in a minute "+
		"(PURSER_SYNCS_PER_MINUTE) for all of your wallets together; wait for the time in RetryInfo, or for the job "+
		"that syncs all wallets", l.SyncsPerMinute)).With("limit", strconv.Itoa(l.SyncsPerMinute)).After(wait)
}
