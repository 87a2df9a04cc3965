package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/access"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/terminal"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// backfillCommand stores the snapshots of past hours, as the service's own account.
type backfillCommand struct {
	*options
	all bool
}

func parseBackfill(args []string) (command, error) {
	b := backfillCommand{options: newOptions("backfill")}
	b.flags.BoolVar(&b.all, "all", false, "")
	if err := b.parse(args, 0); err != nil {
		return nil, err
	}
	if b.start.IsZero() {
		return nil, errs.Invalid("--start", "must be given: the first hour to store")
	}
	if b.end.IsZero() {
		b.end = time.Now()
	}
	return b, nil
}

// run calls Backfill until no hour is left. Each call is bounded, and what one has stored
// stays.
func (b backfillCommand) run(ctx context.Context, e environment, out io.Writer) (err error) {
	auth, err := chassis.DialAuth(e.cfg.AuthConfig)
	if err != nil {
		return err
	}
	self := chassis.AsServiceAccount(auth, e.cfg.ServiceAccount)
	if self == nil {
		return errors.New("backfill needs PURSER_AUTH_ADDR, PURSER_SERVICE_ID and PURSER_SERVICE_SECRET: " +
			"holdings are read as the service's own account")
	}
	defer func() { err = errors.Join(err, auth.Close()) }()
	wallet, err := grpcclient.Dial(e.cfg.Wallet, access.Idempotent(walletv1.HoldingsService_ServiceDesc.ServiceName))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wallet.Close()) }()
	redis, err := chassis.OpenCommandRedis(name, e.cfg.Config, e.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()
	caches := store.NewCaches(redis, store.CacheOptions{Portfolio: e.cfg.Cache.Portfolio,
		Timeline: e.cfg.Cache.Timeline, Log: e.log})
	defer caches.Close()
	reader := holdings.NewReader(walletv1.NewHoldingsServiceClient(wallet))
	snapshots := store.NewSnapshots(e.db, caches).MakePartitions(store.NewPartitions(e.db, e.log))
	portfolios := portfolio.NewService(store.NewPortfolios(e.db, caches), snapshots, reader, nil, time.Now)
	return b.fill(ctx, snapshot.NewService(snapshots, portfolios, reader, e.log, time.Now), self, e.portfolio, out)
}

// maxStandstill is how many calls in a row may end their time without finishing an hour.
const maxStandstill = 5

func (b backfillCommand) fill(ctx context.Context, s *snapshot.Service, self chassis.Identity,
	p portfolio.Portfolio, out io.Writer) error {
	shown := terminal.NewProgress(out, "hours")
	done, stored, incomplete, skipped, standstill := 0, 0, 0, 0, 0
	for next := b.start; ; {
		asThisService, err := self(ctx) // its token may have expired
		if err != nil {
			return err
		}
		got, err := s.Recompute(asThisService, p, next, b.end, b.all)
		if err != nil {
			shown.Clear()
			return fmt.Errorf("%w; the hours before %s are done, and what was stored stays", err,
				next.UTC().Format(time.RFC3339))
		}
		done, stored, incomplete = done+got.Done, stored+got.Stored, incomplete+got.Incomplete
		skipped += got.Skipped
		shown.Show(fmt.Sprintf("%d of %d done, %d stored, %d of them incomplete, %d skipped",
			done, done+got.Remaining, stored, incomplete, skipped))
		if got.Remaining == 0 {
			shown.End()
			return nil
		}
		if standstill++; got.Done > 0 {
			standstill = 0
		}
		if standstill == maxStandstill {
			return fmt.Errorf("the hour %s could not be read in time: is the wallet service or a node slow?",
				got.NextStart.UTC().Format(time.RFC3339))
		}
		next = got.NextStart
	}
}
