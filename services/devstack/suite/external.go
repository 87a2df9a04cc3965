package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/internal/chainurl"
	"github.com/purserhq/purser/services/internal/probe"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

const (
	// askTimeout bounds the questions to one external server.
	askTimeout = 5 * time.Second
	// maxCoins is how many prices a feed is asked for.
	maxCoins = 40
	// multicall3 is the contract by which wallet reads balances, at the same address on every chain.
	multicall3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
)

// oneLine returns an error with the text of err in one line, without a secret URL.
func oneLine(err error, secret string) error {
	return errors.New(strings.Join(strings.Fields(redact.Error(err, secret).Error()), " "))
}

// useDatabase creates a database for each service on the external server, unless it exists.
func (b *Infrastructure) useDatabase(ctx context.Context) (err error) {
	const variable, expected = "PURSER_DATABASE_URL", "a Postgres server whose user may create databases"
	base, err := url.Parse(b.opts.External.Database)
	if err != nil || !strings.HasPrefix(base.Scheme, "postgres") || base.Host == "" {
		return errors.New("PURSER_DATABASE_URL must read postgres://user:password@host:port/database")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	failed := func(err error) error {
		return fmt.Errorf("%s: %s: expected %s, but: %w", variable, redact.URL(base.String()), expected,
			oneLine(err, base.String()))
	}
	conn, err := pgx.Connect(ctx, base.String())
	if err != nil {
		return failed(err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, s := range services() {
		name := "purser_" + s
		var exists bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
			name).Scan(&exists); err != nil {
			return failed(err)
		}
		if !exists {
			if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
				return failed(fmt.Errorf("create %s: %w", name, err))
			}
		}
		service := *base
		service.Path = "/" + name
		b.databases[s] = service.String()
	}
	return nil
}

// askRedis asks the external Redis whether it answers.
func (b *Infrastructure) askRedis(ctx context.Context) error {
	const variable = "PURSER_REDIS_URL"
	given := b.opts.External.Redis
	p, err := redisx.NewProbe(redisx.Options{URL: given, Name: "purser-devstack", Timeout: askTimeout})
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	defer func() { _ = p.Close() }()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := p.Check(ctx); err != nil {
		return fmt.Errorf("%s: %s: expected a Redis server that answers PING, but: %w", variable, redact.URL(given),
			oneLine(err, given))
	}
	return nil
}

// useChains asks the external chains, and reads the token list for them.
func (b *Infrastructure) useChains(ctx context.Context) (answer string, err error) {
	if b.listed, err = b.askTokenLists(); err != nil {
		return "", err
	}
	b.tokenList = b.opts.External.TokenList
	if answer, err = b.askChains(ctx); err != nil {
		return "", err
	}
	return b.external("chain", "PURSER_CHAIN_RPC_URLS") + ", " + answer, nil
}

// askChains asks every node of the external chains for its chain, its newest block and Multicall3. It returns what to
// print: the newest block of each chain, and whether the contract is missing.
func (b *Infrastructure) askChains(ctx context.Context) (string, error) {
	nodes, err := b.externalNodes()
	if err != nil {
		return "", err
	}
	chains := slices.Sorted(maps.Keys(nodes))
	heads, missing := make([]probe.Head, len(chains)), make([]string, len(chains))
	var all errgroup.Group
	for i, id := range chains {
		for j, node := range nodes[id] {
			all.Go(func() error {
				head, deployed, err := askNode(ctx, id, node)
				if j == 0 {
					heads[i] = head
				}
				if j == 0 && !deployed {
					missing[i] = ", no Multicall3: balances are read one by one"
				}
				return err
			})
		}
	}
	if err := all.Wait(); err != nil {
		return "", err
	}
	var texts []string
	for i, id := range chains {
		texts = append(texts, fmt.Sprintf("chain id %d, block %d (%s old)%s", id, heads[i].Number,
			max(0, time.Since(heads[i].Time)).Round(time.Second), missing[i]))
	}
	return strings.Join(texts, "; "), nil
}

// askNode returns the newest block of a node, and whether its chain has Multicall3.
func askNode(ctx context.Context, chain uint64, node string) (head probe.Head, deployed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	failed := func(expected string, came error) error {
		return fmt.Errorf("PURSER_CHAIN_RPC_URLS: %d=%s: expected %s, but: %w", chain, redact.URL(node), expected,
			oneLine(came, node))
	}
	head, err = probe.Node(ctx, node, chain)
	if err != nil && !probe.IsOld(err) { // a chain for development may stand still
		return head, false, failed(fmt.Sprintf("a JSON-RPC node of chain %d", chain), err)
	}
	if deployed, err = probe.HasCode(ctx, node, multicall3); err != nil {
		return head, false, failed("to learn whether Multicall3 is at "+multicall3, err)
	}
	return head, deployed, nil
}

func (b *Infrastructure) externalNodes() (chainurl.Nodes, error) {
	const variable = "PURSER_CHAIN_RPC_URLS"
	var nodes chainurl.Nodes
	if err := nodes.UnmarshalText([]byte(b.opts.External.Chain)); err != nil {
		return nil, fmt.Errorf("%s %w", variable, err)
	}
	return nodes, nodes.Check(variable)
}

// listedToken is what the suite reads of a token list; wallet reads and checks all of it.
type listedToken struct {
	ChainID uint64 `json:"chainId"`
	Address string `json:"address"`
}

// askTokenLists reads the external token lists, which together must have a token of a configured chain.
func (b *Infrastructure) askTokenLists() ([]listedToken, error) {
	const variable = "PURSER_TOKEN_LIST"
	lists := b.opts.External.TokenList
	if lists == "" {
		return nil, errors.New("PURSER_CHAIN_RPC_URLS is set: PURSER_TOKEN_LIST must name a token list for that chain")
	}
	failed := func(path string, came error) error {
		return fmt.Errorf("%s: %s: expected a file in the format of tokenlists.org, but: %w", variable, path, came)
	}
	var all []listedToken
	for path := range strings.SplitSeq(lists, ",") {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, failed(path, errors.New(unwrapPath(err)))
		}
		var list struct {
			Tokens []listedToken `json:"tokens"`
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, failed(path, err)
		}
		all = append(all, list.Tokens...)
	}
	nodes, err := b.externalNodes()
	if err != nil {
		return nil, err
	}
	total := len(all)
	own := slices.DeleteFunc(all, func(t listedToken) bool { return nodes[t.ChainID] == nil })
	if len(own) == 0 {
		return nil, failed(lists, fmt.Errorf("it has %d tokens, and none of a chain of PURSER_CHAIN_RPC_URLS (%s)",
			total, nodes))
	}
	return own, nil
}

// unwrapPath returns what is wrong with a file, without its name.
func unwrapPath(err error) string {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}

// askPrices asks the external feed for the prices of the tokens that the suite knows. It returns what to
// print: how many have one.
func (b *Infrastructure) askPrices(ctx context.Context) (string, error) {
	const variable = "PURSER_PRICE_URL"
	given := b.opts.External.Prices
	if u, err := url.Parse(given); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("PURSER_PRICE_URL must be an http or https URL of a feed with DefiLlama's coins API")
	}
	asked := b.coinsToAsk()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	priced, err := probe.Prices(ctx, given, asked)
	if err == nil && len(priced) == 0 {
		err = fmt.Errorf("it has a price for none of %d tokens, such as %s", len(asked), asked[0])
	}
	if err != nil {
		return "", fmt.Errorf("%s: %s: expected a feed with DefiLlama's coins API and prices of your tokens, but: %w",
			variable, redact.URL(given), oneLine(err, given))
	}
	return fmt.Sprintf("prices of %d of %d tokens", len(priced), len(asked)), nil
}

// coinsToAsk are coins as wallet asks for them: the native coin of each chain, and tokens.
func (b *Infrastructure) coinsToAsk() []string {
	names := walletapp.DefaultPriceChains()
	var coins []string
	add := func(chain uint64, address string) {
		if name, ok := names[chain]; ok && len(coins) < maxCoins {
			coins = append(coins, name+":"+strings.ToLower(address))
		}
	}
	const native = "0x0000000000000000000000000000000000000000"
	if b.Chain != nil {
		add(b.Chain.ChainID(), native)
		for _, t := range b.Chain.Tokens() {
			add(b.Chain.ChainID(), t.Address.Hex())
		}
		return coins
	}
	nodes, _ := b.externalNodes() // was checked
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		add(id, native)
	}
	for _, t := range b.listed {
		add(t.ChainID, t.Address)
	}
	if len(coins) == 0 {
		coins = []string{"coingecko:ethereum"} // no chain has a name in the feed
	}
	return coins
}
