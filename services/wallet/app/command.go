package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/internal/terminal"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Usage of the commands that work on the database.
const Usage = `sync --wallet=ID          read the balances of a wallet from its chain
sync --all                read those of all wallets that were not synced for PURSER_SYNC_EVERY; one that
                          was interrupted goes on when it is started again
import FILE.csv           store the balances or transactions of a file; rows that are stored already
                          stay as they are, so it can be repeated
reset-chain CHAIN [--yes] forget what was read of a chain, such as eip155:31337, that was started anew or
                          went back to an earlier state; without --yes it only tells what that is
partitions                the monthly partitions of the history, how large they are, and how far ahead
                          of now they are made`

// Command runs what Usage lists, and writes what it has to say to out. The caller has to be able to read the
// configuration, secrets included: that is what it asks for permission.
func Command(ctx context.Context, cfg Config, log *slog.Logger, args []string, out io.Writer) (err error) {
	db, err := chassis.OpenCommandDatabase(ctx, name, cfg.Config, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	redis, err := chassis.OpenCommandRedis(name, cfg.Config, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()
	caches := store.NewCaches(redis, store.CacheOptions{Wallets: cfg.Cache.Wallets, Token: cfg.Cache.Token, Log: log})
	defer caches.Close()
	wallets := store.NewWallets(db, caches)
	switch {
	case args[0] == "sync":
		return syncCommand(ctx, cfg, db, wallets, store.NewTokens(db, caches), args[1:], out, log)
	case args[0] == "import" && len(args) == 2:
		return importFile(ctx, importing.NewService(wallets, time.Now), wallets.OwnerOf, args[1], out)
	case args[0] == "reset-chain" && (len(args) == 2 || len(args) == 3 && args[2] == "--yes"):
		return resetChain(ctx, store.NewChainResets(db, wallets), args[1], len(args) == 3, out)
	case args[0] == "partitions" && len(args) == 1:
		return partition.Print(ctx, store.NewPartitions(db, log), time.Now(), out)
	}
	return process.ErrUnknownCommand
}

// syncCommand syncs a wallet, or all that are due.
func syncCommand(ctx context.Context, cfg Config, db *postgres.DB, wallets *store.Wallets, tokens *store.Tokens,
	args []string, out io.Writer, log *slog.Logger) error {
	flags := flag.NewFlagSet("sync", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	one := flags.String("wallet", "", "")
	all := flags.Bool("all", false, "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *all == (*one != "") {
		return process.ErrUnknownCommand
	}
	nodes, err := newChainReader(cfg, log)
	if err != nil {
		return err
	}
	defer func() { _ = nodes.Close() }()
	contracts := token.NewChecker(nodes, tokens, log)
	resets := chainreset.NewGuard(store.NewChainResets(db, wallets), nodes, cfg.ChainResetAfter, log, time.Now)
	positions := defi.NewService(cfg.DefiMarkets, nodes, log)
	if *all {
		p := terminal.NewProgress(out, "wallets")
		round := balancesync.NewRound(wallets, tokens, contracts, nodes, cfg.SyncEvery, cfg.BalancesPerCall, log,
			time.Now)
		round.WatchResets(resets)
		round.ReadPositions(positions)
		round.OnProgress(func(synced, failed int) { p.Show(fmt.Sprintf("%d synced, %d failed", synced, failed)) })
		err := round.Run(ctx, 0, 1)
		p.End()
		return err
	}
	id, err := uuid.Parse(*one)
	if err != nil {
		return errs.Invalid("--wallet", "must be a UUID, "+errs.Given(*one))
	}
	owner, err := wallets.OwnerOf(ctx, id)
	if err != nil {
		return err
	}
	syncs := balancesync.NewService(wallets, tokens, contracts, nodes, time.Now)
	syncs.WatchResets(resets)
	syncs.ReadPositions(positions)
	w, n, err := syncs.Sync(ctx, owner, id)
	if err != nil {
		return err
	}
	failed := ""
	if w.Sync.Error != "" {
		failed = ", " + w.Sync.Error
	}
	_, err = fmt.Fprintf(out, "%s: %d balances at block %d%s\n", w.Account.Display(), n, w.Sync.Block, failed)
	return err
}

// columns keeps the first error of printing.
type columns struct {
	out io.Writer
	err error
}

func (c *columns) print(format string, values ...any) {
	if c.err == nil {
		_, c.err = fmt.Fprintf(c.out, format, values...)
	}
}
