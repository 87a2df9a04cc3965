package app

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

const (
	// syncShards is how many runs a tick has, which replicas share.
	syncShards = 4
	// syncTimeout bounds one run: less than the time between two ticks.
	syncTimeout = 4 * time.Minute
	// scanTimeout bounds one run of the search for transactions; the next goes on.
	scanTimeout = 10 * time.Minute
	// syncRetryDelay is how long after a failure a run is tried again.
	syncRetryDelay = time.Minute
)

// syncJob syncs everybody's wallets. It needs no service account: it touches
// nothing but the service's own database.
func syncJob(round *balancesync.Round, cfg Config) chassis.Job {
	return chassis.Job{
		CronSetting: "PURSER_SYNC_CRON",
		Job: jobs.Job{
			Name: "sync_wallets", Cron: cfg.SyncCron, Shards: syncShards, Timeout: syncTimeout,
			Backoff: func(int) time.Duration { return syncRetryDelay },
			Run:     func(ctx context.Context, r *jobs.Run) error { return round.Run(ctx, r.Shard, r.Shards) },
		},
	}
}

// maxScanShards is how many runs a tick of the search for transactions has at most: fewer than a process executes at
// once, so that slow chains leave room for other jobs.
const maxScanShards = 6

// transactionsJob looks for what moved the balances of everybody's wallets. Each chain has a run of its own, so that a
// slow one delays no other, while there are no more chains than maxScanShards.
func transactionsJob(scanner *transaction.Scanner, cfg Config) chassis.Job {
	return chassis.Job{
		CronSetting: "PURSER_TRANSACTIONS_CRON",
		Job: jobs.Job{
			Name: "find_transactions", Cron: cfg.TransactionsCron, Timeout: scanTimeout,
			Shards:  max(1, min(maxScanShards, len(cfg.ChainRPCURLs))),
			Backoff: func(int) time.Duration { return syncRetryDelay },
			Run:     func(ctx context.Context, r *jobs.Run) error { return scanner.Run(ctx, r.Shard, r.Shards) },
		},
	}
}

// partitionsJob makes the partitions of the coming months, and drops those that are old.
func partitionsJob(maker *partition.Maker) chassis.Job {
	return chassis.Job{Job: maker.Job(partitionsTimeout)}
}

// partitionsTimeout bounds a run of partitionsJob; what is left is for the next one.
const partitionsTimeout = 10 * time.Minute
