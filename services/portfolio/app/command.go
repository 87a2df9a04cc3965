package app

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// Usage of the commands that work on the database.
const Usage = `backfill --portfolio=ID --start=TIME [--end=TIME] [--all]
                          store the snapshots of past hours, up to now without --end; hours that have a
                          complete one are left as they are, but with --all; one that was interrupted
                          goes on when it is started again
chart --portfolio=ID [--start=TIME] [--end=TIME]
                          draw the value of a portfolio in USD; the last 30 days
export --portfolio=ID FILE
                          store the snapshots of a portfolio in a file: .csv, .jsonl or .xlsx; more options:
                          --positions      the positions of the snapshots
                          --currency       that of prices and values: EUR, GBP, CHF, JPY or the id of a token; rates
                                           that are not stored are read as the service's own account
                          --decimal-comma  semicolons and decimal commas in a .csv file
                          --start, --end   as of chart; a TIME is as in RFC 3339: 2026-03-01T00:00:00Z
partitions                the monthly partitions of the prices of hours, how large they are, and how far
                          ahead of now they are made
webhooks rewrap           put the secrets of webhook endpoints that are under PURSER_WEBHOOKS_KEK_PREVIOUS under
                          PURSER_WEBHOOKS_KEK`

// Command runs what Usage lists, and writes what it has to say to out. The caller has to be able to read the
// configuration, secrets included: that is what it asks for permission.
func Command(ctx context.Context, cfg Config, log *slog.Logger, args []string, out io.Writer) error {
	if args[0] == "partitions" && len(args) == 1 {
		return withDatabase(ctx, cfg, log, func(db *postgres.DB) error {
			return partition.Print(ctx, store.NewPartitions(db, log), time.Now(), out)
		})
	}
	if len(args) == 2 && args[0] == "webhooks" && args[1] == "rewrap" {
		return withDatabase(ctx, cfg, log, func(db *postgres.DB) error { return rewrapWebhooks(ctx, cfg, db, out) })
	}
	parse := map[string]func([]string) (command, error){"backfill": parseBackfill, "chart": parseChart,
		"export": parseExport}[args[0]]
	if parse == nil {
		return process.ErrUnknownCommand
	}
	c, err := parse(args[1:])
	if err != nil {
		return err
	}
	return withDatabase(ctx, cfg, log, func(db *postgres.DB) error {
		p, err := store.NewPortfolios(db, nil).OfAnyOwner(ctx, c.portfolioID())
		if err != nil {
			return err
		}
		return c.run(ctx, environment{cfg, db, log, p}, out)
	})
}

// withDatabase calls work with the database, and closes it after.
func withDatabase(ctx context.Context, cfg Config, log *slog.Logger, work func(*postgres.DB) error) (err error) {
	db, err := chassis.OpenCommandDatabase(ctx, name, cfg.Config, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return work(db)
}

// command is one that was parsed.
type command interface {
	portfolioID() uuid.UUID
	run(ctx context.Context, e environment, out io.Writer) error
}

// environment is what commands work with.
type environment struct {
	cfg       Config
	db        *postgres.DB
	log       *slog.Logger
	portfolio portfolio.Portfolio
}

// options are those that every command has.
type options struct {
	flags      *flag.FlagSet
	id         uuid.UUID
	start, end time.Time // zero when not given

	portfolio, startText, endText *string
}

func newOptions(command string) *options {
	o := &options{flags: flag.NewFlagSet(command, flag.ContinueOnError)}
	o.flags.SetOutput(io.Discard)
	o.portfolio = o.flags.String("portfolio", "", "")
	o.startText, o.endText = o.flags.String("start", "", ""), o.flags.String("end", "", "")
	return o
}

func (o *options) portfolioID() uuid.UUID { return o.id }

// parse reads args, after which that many are left.
func (o *options) parse(args []string, left int) error {
	if err := o.flags.Parse(args); err != nil || o.flags.NArg() != left || *o.portfolio == "" {
		return process.ErrUnknownCommand
	}
	var err error
	if o.id, err = uuid.Parse(*o.portfolio); err != nil {
		return errs.Invalid("--portfolio", "must be a UUID, "+errs.Given(*o.portfolio))
	}
	for name, at := range map[string]struct {
		text string
		time *time.Time
	}{"--start": {*o.startText, &o.start}, "--end": {*o.endText, &o.end}} {
		if at.text == "" {
			continue
		}
		if *at.time, err = time.Parse(time.RFC3339, at.text); err != nil {
			return errs.Invalid(name,
				"must be an RFC 3339 time, such as 2026-03-01T00:00:00Z, "+errs.Given(at.text))
		}
	}
	return nil
}
