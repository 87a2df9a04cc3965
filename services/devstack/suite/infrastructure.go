package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/testkit/filelock"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/login"
	"github.com/purserhq/purser/services/devstack/prices"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/tokenlist"
	"github.com/purserhq/purser/services/internal/mailserver"
)

// External are the URLs of servers to use in place of the embedded ones; "" keeps the embedded one.
type External struct {
	Database, Redis, Chain, Prices, TokenList string
}

// Options of a suite. Only Dir is required.
type Options struct {
	// Dir is the data folder; it is created if missing.
	Dir      string
	Ports    Ports
	External External
	// Durable makes the embedded Postgres and Redis sync their writes to disk; tests leave it off.
	Durable bool
	// History is how far back the embedded chain has blocks; 90 days when zero.
	History time.Duration
	// Defi gives the embedded chain the protocols and positions of chain.Options.Defi, which wallet reads.
	Defi bool
	// LiveEvery is the time between blocks while the chain runs; no blocks are mined when zero.
	LiveEvery time.Duration
	// Now is the clock of the chain and the price feed.
	Now func() time.Time
	// Issuer of the tokens, and BaseURL of auth's HTTP port; "" for the URL of the port.
	Issuer, BaseURL string
	// Providers is a JSON array of identity providers beside the local ones, as in PURSER_OAUTH_PROVIDERS;
	// RedirectURIs and ReturnTo are allowed beside the local app's.
	Providers              string
	RedirectURIs, ReturnTo []string
	// Extra are environment variables, NAME=value, by service; they override those of the suite.
	Extra map[string][]string
	// Mailed is called with each mail that the services send; may be nil.
	Mailed func(mailserver.Mail)
	Log    *slog.Logger
	// Out prints the steps; nil discards them.
	Out *progress.Printer
}

// Part is a server that the suite runs on.
type Part struct {
	Name, Address string
	Embedded      bool
}

// Infrastructure is the servers that the services run on: Postgres, Redis, a chain, a price feed, a mail server
// that keeps all mails to itself, and an identity provider. Servers that are not embedded are nil.
type Infrastructure struct {
	Postgres *pgserver.Server
	Redis    *redisserver.Server
	Chain    *chain.Chain
	Prices   *prices.Feed
	Mail     *mailserver.Server
	Login    *login.Provider

	mu        sync.Mutex
	parts     []Part
	opts      Options
	lock      *filelock.Lock
	databases map[string]string // URL by service
	tokenList string
	// priceFeeds is the file of the feeds on the embedded chain; "" without it.
	priceFeeds string
	listed     []listedToken // of an external token list
	kekFile    string
	providers  string // PURSER_OAUTH_PROVIDERS
}

// services are the names of the services in the order of their start.
func services() []string { return []string{"auth", "wallet", "portfolio"} }

// StartInfrastructure starts the embedded servers concurrently and creates a database for each service. The
// caller must Close it, also after an error.
func StartInfrastructure(ctx context.Context, o Options) (*Infrastructure, error) {
	if o.Out == nil {
		o.Out = progress.New(io.Discard)
	}
	b := &Infrastructure{opts: o, databases: map[string]string{}}
	var err error
	if b.lock, err = lockFolder(o.Dir); err != nil {
		return b, err
	}
	if err := o.Ports.check(ctx); err != nil {
		return b, err
	}
	if b.opts.Ports.AuthHTTP == 0 { // it has to be known before auth runs: it is part of the issuer
		if b.opts.Ports.AuthHTTP, err = unusedPort(ctx); err != nil {
			return b, err
		}
	}
	if err := b.checkRoom(); err != nil {
		return b, err
	}
	if b.kekFile, err = secretFile(filepath.Join(o.Dir, "key-encryption-key")); err != nil {
		return b, err
	}
	if err := b.checkSettings(); err != nil {
		return b, err
	}
	var g errgroup.Group
	g.Go(func() error { return b.startDatabase(ctx) })
	g.Go(func() error { return b.startRedis(ctx) })
	g.Go(func() error { return b.startChain(ctx) })
	g.Go(func() error { return b.startMail(ctx) })
	g.Go(func() error { return b.startLogin(ctx) })
	if err := g.Wait(); err != nil {
		return b, err
	}
	return b, b.startPrices(ctx)
}

func (b *Infrastructure) step(name string, work func(progress.Note) (string, error)) error {
	return b.opts.Out.Step(name, work)
}

func (b *Infrastructure) startDatabase(ctx context.Context) error {
	return b.step("Postgres", func(progress.Note) (string, error) {
		if b.opts.External.Database != "" {
			return b.external("Postgres", "PURSER_DATABASE_URL"), b.useDatabase(ctx)
		}
		var err error
		b.Postgres, err = pgserver.Start(ctx, pgserver.Options{
			Dir: filepath.Join(b.opts.Dir, "postgres"), Port: b.opts.Ports.Postgres, Durable: b.opts.Durable,
			Log: b.opts.Log,
		})
		if errors.Is(err, pgserver.ErrPortBusy) {
			return "", fmt.Errorf("%w: %s", err, freePorts)
		}
		if err != nil {
			return "", err
		}
		for _, s := range services() {
			role := "purser_" + s
			if err := b.Postgres.CreateRole(ctx, role); err != nil {
				return "", err
			}
			if err := b.Postgres.CreateDatabase(ctx, role, role); err != nil {
				return "", err
			}
			b.databases[s] = b.Postgres.RoleURL(role, role)
		}
		return b.embedded("Postgres", loopback(b.Postgres.Port())), nil
	})
}

func (b *Infrastructure) startRedis(ctx context.Context) error {
	return b.step("Redis", func(progress.Note) (string, error) {
		if b.opts.External.Redis != "" {
			return b.external("Redis", "PURSER_REDIS_URL"), b.askRedis(ctx)
		}
		var err error
		b.Redis, err = redisserver.Start(ctx, redisserver.Options{
			Dir: filepath.Join(b.opts.Dir, "redis"), Port: b.opts.Ports.Redis, Durable: b.opts.Durable,
			Log: b.opts.Log,
		})
		if errors.Is(err, redisserver.ErrPortBusy) {
			return "", fmt.Errorf("%w: %s", err, freePorts)
		}
		if err != nil {
			return "", err
		}
		return b.embedded("Redis", loopback(b.Redis.Port())), nil
	})
}

func (b *Infrastructure) startChain(ctx context.Context) error {
	return b.step("chain", func(note progress.Note) (string, error) {
		if b.opts.External.Chain != "" {
			return b.useChains(ctx)
		}
		c, err := chain.Start(ctx, chain.Options{
			Dir: filepath.Join(b.opts.Dir, "chain"), HTTPAddr: loopback(b.opts.Ports.Chain),
			History: b.opts.History, LiveEvery: b.opts.LiveEvery, Now: b.opts.Now, Log: b.opts.Log,
			Defi: b.opts.Defi, Progress: func(done, total int) { note("block %d of %d", done, total) },
		})
		if err != nil {
			return "", err
		}
		b.Chain = c
		b.tokenList = filepath.Join(b.opts.Dir, "tokens.json")
		list, err := tokenlist.New(c.ChainID(), c.Head().Time, c.Tokens()).JSON()
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(b.tokenList, list, 0o644); err != nil {
			return "", fmt.Errorf("token list: %w", err)
		}
		b.priceFeeds = filepath.Join(b.opts.Dir, "feeds.json")
		if err := writeFeeds(b.priceFeeds, c); err != nil {
			return "", err
		}
		return b.embedded("chain", fmt.Sprintf("%s, chain id %d", c.URL(), c.ChainID())) +
			fmt.Sprintf(", block %d", c.Head().Number), nil
	})
}

func (b *Infrastructure) startMail(ctx context.Context) error {
	return b.step("mail", func(progress.Note) (_ string, err error) {
		b.Mail, err = mailserver.Start(ctx, mailserver.Options{Port: b.opts.Ports.Mail, Received: b.opts.Mailed})
		if err != nil {
			return "", err
		}
		return b.embedded("mail", b.Mail.Addr()) + ", delivers nothing", nil
	})
}

func (b *Infrastructure) startPrices(ctx context.Context) error {
	return b.step("prices", func(progress.Note) (string, error) {
		if b.opts.External.Prices != "" {
			answer, err := b.askPrices(ctx)
			return b.external("prices", "PURSER_PRICE_URL") + ", " + answer, err
		}
		var err error
		b.Prices, err = prices.Start(context.Background(), prices.Options{
			Coins: coins(b.Chain), Addr: loopback(b.opts.Ports.Prices), Now: b.opts.Now,
		})
		if err != nil {
			return "", err
		}
		return b.embedded("prices", b.Prices.URL()), nil
	})
}

// coins returns the chain's tokens with their keys in the price feed.
func coins(c *chain.Chain) []prices.Coin {
	list := []prices.Coin{{
		Keys: []string{"local:" + strings.ToLower(chain.Native().Hex()), "coingecko:ethereum"}, Symbol: "ETH",
		Decimals: 18,
	}}
	for _, t := range c.Tokens() {
		keys := []string{"local:" + strings.ToLower(t.Address.Hex())}
		if t.Symbol == "WBTC" {
			keys = append(keys, "coingecko:bitcoin")
		}
		list = append(list, prices.Coin{Keys: keys, Symbol: t.Symbol, Decimals: t.Decimals})
	}
	return list
}

// Parts returns the servers that the services run on, sorted by name.
func (b *Infrastructure) Parts() []Part {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(slices.Values(b.parts), func(x, y Part) int { return cmp.Compare(x.Name, y.Name) })
}

// external records a server that the user configured.
func (b *Infrastructure) external(name, variable string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts = append(b.parts, Part{Name: name, Address: "external (" + variable + ")"})
	return "external (" + variable + ")"
}

// embedded records a server started here.
func (b *Infrastructure) embedded(name, address string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts = append(b.parts, Part{Name: name, Address: address, Embedded: true})
	return "embedded, " + address
}

// Close stops the embedded servers, the database last.
func (b *Infrastructure) Close(ctx context.Context) error {
	var failures []error
	if b.Mail != nil {
		failures = append(failures, b.Mail.Close())
	}
	if b.Prices != nil {
		failures = append(failures, b.Prices.Close())
	}
	if b.Login != nil {
		failures = append(failures, b.Login.Close())
	}
	if b.Chain != nil {
		failures = append(failures, b.Chain.Close())
	}
	if b.Redis != nil {
		failures = append(failures, b.Redis.Stop(ctx))
	}
	if b.Postgres != nil {
		failures = append(failures, b.Postgres.Stop(ctx))
	}
	if b.lock != nil {
		b.lock.Unlock()
	}
	return errors.Join(failures...)
}
