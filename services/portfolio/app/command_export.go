package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/access"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// exportCommand stores snapshots in a file.
type exportCommand struct {
	*options
	path string
	export.Request
}

func parseExport(args []string) (command, error) {
	e := exportCommand{options: newOptions("export")}
	e.flags.BoolVar(&e.Positions, "positions", false, "")
	e.flags.StringVar(&e.Currency, "currency", "", "")
	comma := e.flags.Bool("decimal-comma", false, "")
	if err := e.parse(args, 1); err != nil {
		return nil, err
	}
	if err := currency.Check("--currency", e.Currency); err != nil {
		return nil, err
	}
	e.Start, e.End = e.start, e.end
	e.path = e.flags.Arg(0)
	ending := filepath.Ext(e.path)
	formats := map[string]export.Format{".csv": export.CSV, ".jsonl": export.JSONLines, ".xlsx": export.XLSX}
	if e.Format = formats[ending]; e.Format == 0 {
		return nil, errs.Invalid("FILE", "must end with .csv, .jsonl or .xlsx, "+errs.Given(e.path))
	}
	if *comma {
		if e.Format != export.CSV {
			return nil, errs.Invalid("--decimal-comma", "is for .csv files, "+errs.Given(e.path))
		}
		e.Format = export.CSVSemicolon
	}
	return e, nil
}

// run writes the file under another name first, so that what has the name is whole.
func (e exportCommand) run(ctx context.Context, env environment, out io.Writer) (err error) {
	source, closeSource, err := e.rates(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	rates := currency.NewService(store.NewCurrencyRates(env.db, time.Now), source, time.Now)
	f, err := os.CreateTemp(filepath.Dir(e.path), ".export-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	rows, err := export.NewService(store.NewSnapshots(env.db, nil), rates, time.Now).Write(ctx, env.portfolio,
		e.Request, f)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), e.path)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = fmt.Fprintf(out, "%d rows in %s\n", rows, e.path)
	return err
}

// rates returns where rates that are not stored are read from: wallet, as the service's own account. Without an
// account they stay unknown.
func (e exportCommand) rates(env environment) (source currency.Source, done func() error, err error) {
	nothing := func() error { return nil }
	if currency.IsUSD(e.Currency) {
		return unread{}, nothing, nil
	}
	auth, err := chassis.DialAuth(env.cfg.AuthConfig)
	if err != nil {
		return nil, nil, err
	}
	if auth == nil {
		return unread{}, nothing, nil
	}
	self := chassis.AsServiceAccount(auth, env.cfg.ServiceAccount)
	if self == nil {
		return unread{}, auth.Close, nil
	}
	wallet, err := grpcclient.Dial(env.cfg.Wallet, access.Idempotent(walletv1.PriceService_ServiceDesc.ServiceName))
	if err != nil {
		return nil, nil, errors.Join(err, auth.Close())
	}
	return ratesAs{holdings.NewRates(walletv1.NewPriceServiceClient(wallet), time.Now), self},
		func() error { return errors.Join(wallet.Close(), auth.Close()) }, nil
}

// ratesAs reads rates as an account of its own.
type ratesAs struct {
	*holdings.Rates
	self chassis.Identity
}

// Hours implements currency.Source.
func (r ratesAs) Hours(ctx context.Context, code string, from, until time.Time,
	visit func([]currency.HourRate) error) error {
	ctx, err := r.self(ctx)
	if err != nil {
		return err
	}
	return r.Rates.Hours(ctx, code, from, until, visit)
}

// unread is a source that can't be asked.
type unread struct{}

func (unread) Now(context.Context, string) (currency.Rate, error) {
	return currency.Rate{}, errs.Unavailable("WALLET_UNAVAILABLE", "the service has no account of its own")
}

func (unread) Hours(context.Context, string, time.Time, time.Time, func([]currency.HourRate) error) error {
	return errs.Unavailable("WALLET_UNAVAILABLE", "the service has no account of its own")
}
