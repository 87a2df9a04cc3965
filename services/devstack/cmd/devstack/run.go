package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/telemetry"
	"github.com/purserhq/purser/services/devstack/console"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/traces"
	"github.com/purserhq/purser/services/internal/mailserver"
)

// settings of the command, read from PURSER_*. The URLs replace embedded servers. Other settings of the services
// reach them by suite.Settings.
type settings struct {
	Dir      string        `env:"DEV_DIR"`
	Port     int           `env:"DEV_PORT" envDefault:"7600"`
	Demo     bool          `env:"DEMO" envDefault:"true"`
	Accounts []string      `env:"DEMO_ACCOUNTS"`
	LogLevel slog.Level    `env:"LOG_LEVEL" envDefault:"INFO"`
	Database config.Secret `env:"DATABASE_URL"`
	Redis    config.Secret `env:"REDIS_URL"`
	Chain    string        `env:"CHAIN_RPC_URLS"`
	Prices   string        `env:"PRICE_URL"`
	Tokens   string        `env:"TOKEN_LIST"`
	Issuer   string        `env:"ISSUER"`
	BaseURL  string        `env:"HTTP_BASE_URL"`

	Providers    config.Secret `env:"OAUTH_PROVIDERS"`
	RedirectURIs []string      `env:"OAUTH_REDIRECT_URIS"`
	ReturnTo     []string      `env:"OAUTH_RETURN_TO"`
}

// Validate returns all errors in s.
func (s settings) Validate() error {
	var found []error
	if s.Port < 1 || s.Port > 65535-11 {
		found = append(found, errors.New("PURSER_DEV_PORT must be 1 to 65524: the suite takes the eleven ports "+
			"after it"))
	}
	if s.Tokens != "" && s.Chain == "" {
		found = append(found, errors.New("PURSER_TOKEN_LIST needs PURSER_CHAIN_RPC_URLS: the embedded chain has a "+
			"list of its own"))
	}
	return errors.Join(found...)
}

// storedSpans is the size of the trace ring.
const storedSpans = 8192

// history is the length of the demo's backfill.
const history = 90 * 24 * time.Hour

// blockInterval is the time between blocks of the embedded chain.
const blockInterval = 12 * time.Second

// gcPercent is GOGC unless that is set. The embedded chain allocates much and keeps little: the process takes 270 MB
// rather than 190, and a fifth of the backfill's CPU time is saved.
const gcPercent = 400

func run(ctx context.Context, args, environ []string, out io.Writer) (err error) {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	if len(args) > 0 {
		return subcommand(ctx, args, environ, out)
	}
	var s settings
	loadErr := config.Load(environ, &s)
	extra, err := suite.Settings(environ, s)
	if err := errors.Join(loadErr, err); err != nil {
		return err
	}
	extra["auth"] = suite.Override(suite.ShortKeys(), extra["auth"])
	if s.Chain == "" { // the calls to the embedded node are free
		extra["wallet"] = suite.Override([]string{"PURSER_NEW_BLOCKS_EVERY=1s"}, extra["wallet"])
	}
	configured := s.Dir
	if s.Dir, err = dataDir(s.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("PURSER_DEV_DIR: %w", err)
	}
	logs, err := os.OpenFile(filepath.Join(s.Dir, "suite.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	ring := traces.NewRing(storedSpans)
	tel, err := telemetry.Start(ctx, "purser-devstack", telemetry.WithSpanProcessor(ring),
		telemetry.WithSpanExporter(traces.ByService))
	if err != nil {
		return err
	}
	defer tel.Flush()
	log := telemetry.NewLogger(logs, s.LogLevel, "") // each service adds its own name
	redisx.LogTo(log)
	show := progress.New(out)
	show.Printf("Purser suite, data in %s\n", s.Dir)
	up, err := suite.Start(ctx, suite.Options{
		Dir: s.Dir, Ports: suite.PortsFrom(s.Port), Durable: true, Defi: true, LiveEvery: blockInterval,
		External: suite.External{
			Database: s.Database.Reveal(), Redis: s.Redis.Reveal(), Chain: s.Chain, Prices: s.Prices,
			TokenList: s.Tokens,
		},
		Issuer: s.Issuer, BaseURL: s.BaseURL, Providers: s.Providers.Reveal(), RedirectURIs: s.RedirectURIs,
		ReturnTo: s.ReturnTo, Extra: extra,
		Log: log, Out: show,
		Mailed: func(m mailserver.Mail) {
			show.Printf("  ✉ to %s: %s  %s\n", m.To, m.Subject, demo.Code(m))
			if err := storeCode(s.Dir, m); err != nil {
				show.Printf("  %v\n", err)
			}
		},
	})
	if err != nil {
		return err
	}
	show.Printf("ready in %s\n\n", show.Elapsed())
	defer func() {
		show.Printf("\nstopping\n")
		err = errors.Join(err, up.Stop())
	}()
	if up.Chain != nil {
		if _, err := up.Chain.DeployWallet(ctx, up.Chain.Cast().Alice); err != nil {
			return err
		}
	}
	forget, err := storeAuthEnviron(s.Dir, up.AuthEnviron())
	if err != nil {
		return err
	}
	defer forget()
	g, err := s.runDemo(ctx, up, ring, show, out)
	if err != nil || ctx.Err() != nil {
		return err
	}
	c, err := s.console(ctx, up, ring, g, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	g.console, g.configuredDir = c.URL(), configured
	if _, err := io.WriteString(out, g.String()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-up.Failed():
		return err
	}
}

// runDemo runs the demo, unless it is turned off, and returns the guide to print.
func (s settings) runDemo(ctx context.Context, up *suite.Suite, ring *traces.Ring, show *progress.Printer,
	out io.Writer) (guide, error) {
	accounts := s.Accounts
	if len(accounts) == 0 && up.Chain != nil {
		for _, h := range up.Chain.Holders() {
			accounts = append(accounts, fmt.Sprintf("eip155:%d:%s", up.Chain.ChainID(), h.Hex()))
		}
	}
	g := guide{suite: up, dir: s.Dir, email: "demo@example.com"}
	switch {
	case !s.Demo:
	case len(accounts) == 0:
		show.Printf("no demo: with an external chain, set PURSER_DEMO_ACCOUNTS to CAIP-10 accounts, separated by " +
			"commas\n")
	default:
		var err error
		if g.password, err = suite.Secret(filepath.Join(s.Dir, "demo-password")); err != nil {
			return g, err
		}
		show.Printf("signing keys rotate fast for the demo: %s\n", keySettings(up.AuthEnviron()))
		begun := time.Now()
		r, err := demo.Run(ctx, demo.Options{
			Endpoints: up.Endpoints, Email: g.email, Password: g.password, Accounts: accounts, Mails: up.Mail,
			History: history, Out: show,
			Rotate: func(ctx context.Context) error {
				_, err := up.AuthCommand(ctx, "keys", "rotate")
				return err
			},
		})
		if err != nil && ctx.Err() == nil {
			return g, fmt.Errorf("demo: %w (the services' log is %s)", err, filepath.Join(s.Dir, "suite.log"))
		}
		if err != nil { // Ctrl-C
			return g, nil //nolint:nilerr // stopping on request is no failure
		}
		if err := r.Show(out); err != nil {
			return g, err
		}
		if err := r.ShowTrace(ctx, up.Endpoints, ring, out); err != nil {
			return g, err
		}
		show.Printf("demo done in %.2fs\n", time.Since(begun).Seconds())
		g.token = r.Token
	}
	return g, nil
}

// console starts the web page, which shows the demo's portfolio, if there is one, to who has not signed in.
func (s settings) console(ctx context.Context, up *suite.Suite, ring *traces.Ring, g guide,
	log *slog.Logger) (*console.Console, error) {
	o := console.Options{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(suite.PortsFrom(s.Port).Console)), Endpoints: up.Endpoints,
		Traces: ring, Log: log,
		NoUser: "There is no demo: the suite was started with DEMO=0.",
	}
	if up.Chain != nil {
		o.ExampleAccount = fmt.Sprintf("eip155:%d:%s", up.Chain.ChainID(), up.Chain.Holders()[0].Hex())
	}
	switch {
	case g.token != "":
		o.Email, o.Password = g.email, g.password
	case s.Demo:
		o.NoUser = "There is no demo: with an external chain, set PURSER_DEMO_ACCOUNTS."
	}
	var err error
	if o.Secret, err = console.EnsureServiceAccount(ctx, up.AuthCommand, s.Dir); err != nil {
		return nil, err
	}
	return console.Start(ctx, o)
}

// keySettings are those of the signing keys, on one line.
func keySettings(environ []string) string {
	var keys []string
	for _, v := range environ {
		if setting, ok := strings.CutPrefix(v, "PURSER_KEYS_"); ok {
			keys = append(keys, setting)
		}
	}
	return strings.Join(keys, " ")
}
