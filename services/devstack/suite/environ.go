package suite

import (
	"cmp"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Endpoints are the addresses of the services, host:port.
type Endpoints struct {
	Auth, AuthHTTP, Wallet, Portfolio string
}

// Issuer of the tokens: Options.Issuer, or the URL of auth's HTTP port, under which verifiers find its discovery
// document. A suite on other ports then has other keys; its accounts and sessions stay.
func (b *Infrastructure) Issuer() string { return cmp.Or(b.opts.Issuer, b.baseURL()) }

// AuthEnviron is the configuration of the auth service on this infrastructure.
func (b *Infrastructure) AuthEnviron() []string {
	return b.environ("auth", b.opts.Ports.Auth,
		"PURSER_CHAIN_RPC_URLS="+b.nodes(),
		"PURSER_SIWE_DOMAIN="+loopback(b.opts.Ports.AuthHTTP),
		"PURSER_SIWE_URI=http://"+loopback(b.opts.Ports.AuthHTTP),
		"PURSER_SIWE_CHAINS="+b.chains(),
		"PURSER_HTTP_BASE_URL="+b.baseURL(),
		"PURSER_OAUTH_PROVIDERS="+b.providers,
		"PURSER_OAUTH_REDIRECT_URIS="+strings.Join(append([]string{b.Login.AppURL()}, b.opts.RedirectURIs...), ","),
		"PURSER_OAUTH_RETURN_TO="+strings.Join(append([]string{b.Login.AppURL()}, b.opts.ReturnTo...), ","),
		"PURSER_HTTP_ADDR="+loopback(b.opts.Ports.AuthHTTP),
		"PURSER_KEK_FILE="+b.kekFile,
		"PURSER_REDIS_URL="+b.redisURL(),
		"PURSER_SMTP_ADDR="+b.Mail.Addr(),
		"PURSER_SMTP_TLS=none",
		"PURSER_SMTP_FROM=Purser <no-reply@purser.localhost>",
	)
}

// WalletEnviron is the configuration of the wallet service; e must have the addresses of auth.
func (b *Infrastructure) WalletEnviron(e Endpoints) []string {
	settings := append(b.serviceAccount("wallet"), b.priceSources()...)
	settings = append(settings, b.markets()...)
	return b.environ("wallet", b.opts.Ports.Wallet, append(settings,
		"PURSER_SIWE_DOMAIN="+loopback(b.opts.Ports.AuthHTTP),
		"PURSER_SIWE_URI=http://"+loopback(b.opts.Ports.AuthHTTP),
		"PURSER_REDIS_URL="+b.redisURL(),
		"PURSER_JWKS_URL="+keySetURL(e),
		"PURSER_AUTH_ADDR="+e.Auth,
		"PURSER_AUTH_PLAINTEXT=true",
		"PURSER_CHAIN_RPC_URLS="+b.nodes(),
		"PURSER_TOKEN_LIST="+b.tokenList,
	)...)
}

// markets returns wallet's setting of the markets of the embedded chain; none without any.
func (b *Infrastructure) markets() []string {
	if b.Chain == nil || len(b.Chain.Markets()) == 0 {
		return nil
	}
	var entries []string
	for _, m := range b.Chain.Markets() {
		entries = append(entries, fmt.Sprintf("%s@eip155:%d:%s", m.Protocol, b.Chain.ChainID(), m.Address.Hex()))
	}
	return []string{"PURSER_DEFI_MARKETS=" + strings.Join(entries, ",")}
}

// priceSources returns wallet's settings of sources of prices: the embedded feed in both of its shapes, or the
// external one; and the feeds on the embedded chain, if they are chosen. The URLs go with the sources that are chosen,
// since one without effect is refused.
func (b *Infrastructure) priceSources() []string {
	if b.Prices != nil {
		return b.priceSourcesOf(b.Prices.URL())
	}
	return b.priceSourcesOf("")
}

// priceSourcesOf are priceSources with the URL of the embedded feed, "" for the external one.
func (b *Infrastructure) priceSourcesOf(embedded string) []string {
	feed, sources := b.opts.External.Prices, "llama,imported"
	if embedded != "" {
		feed, sources = embedded, "llama,coingecko,imported"
	}
	const setting = "PURSER_PRICE_SOURCES="
	for _, own := range b.opts.Extra["wallet"] {
		if chosen, ok := strings.CutPrefix(own, setting); ok {
			sources = chosen
		}
	}
	settings := []string{setting + sources}
	if strings.Contains(sources, "llama") {
		settings = append(settings, "PURSER_PRICE_URL="+feed)
	}
	if b.priceFeeds != "" && strings.Contains(sources, "chainlink") {
		settings = append(settings, "PURSER_PRICE_FEEDS="+b.priceFeeds)
	}
	if embedded != "" && strings.Contains(sources, "coingecko") {
		settings = append(settings, "PURSER_PRICE_COINGECKO_URL="+feed+"/api/v3")
	}
	return settings
}

// PortfolioEnviron is the configuration of the portfolio service; e must have the addresses of auth and
// wallet.
func (b *Infrastructure) PortfolioEnviron(e Endpoints) []string {
	return b.environ("portfolio", b.opts.Ports.Portfolio, append(b.serviceAccount("portfolio"),
		"PURSER_REDIS_URL="+b.redisURL(),
		"PURSER_JWKS_URL="+keySetURL(e),
		"PURSER_AUTH_ADDR="+e.Auth,
		"PURSER_AUTH_PLAINTEXT=true",
		"PURSER_WALLET_ADDR="+e.Wallet,
		"PURSER_WALLET_PLAINTEXT=true",
		"PURSER_WEBHOOKS_KEK_FILE="+b.kekFile,
		// Whoever tries the suite has their receiver on this machine.
		"PURSER_WEBHOOKS_ALLOW_HTTP=true",
		"PURSER_WEBHOOKS_ALLOW_ADDRESSES=127.0.0.0/8,::1/128",
	)...)
}

// serviceAccount returns the settings of a service's own account, once the file with its secret exists.
func (b *Infrastructure) serviceAccount(service string) []string {
	if _, err := os.Stat(b.serviceSecret(service)); err != nil {
		return nil
	}
	return []string{"PURSER_SERVICE_ID=" + service, "PURSER_SERVICE_SECRET_FILE=" + b.serviceSecret(service)}
}

// serviceSecret is the file with the secret of a service's own account.
func (b *Infrastructure) serviceSecret(service string) string {
	return filepath.Join(b.opts.Dir, service+"-secret")
}

// EnsureServiceAccounts are the command lines of the auth service that create the service accounts and the files with
// their secrets. The settings of the services use the files once they exist.
func (b *Infrastructure) EnsureServiceAccounts() [][]string {
	ensure := func(service, permissions string) []string {
		return []string{"service-account", "ensure", service, "--permissions=" + permissions,
			"--secret-file=" + b.serviceSecret(service)}
	}
	return [][]string{ensure("wallet", "users:erase"), ensure("portfolio", "wallet:read,wallet:any,users:erase")}
}

// environ returns the variables of all services and own, with those of the options in place of theirs.
func (b *Infrastructure) environ(service string, port int, own ...string) []string {
	return Override(append([]string{
		"PURSER_GRPC_ADDR=" + loopback(port),
		"PURSER_GRPC_PLAINTEXT=true",
		"PURSER_GRPC_REFLECTION=true",
		"PURSER_DATABASE_URL=" + b.databases[service],
		"PURSER_ISSUER=" + b.Issuer(),
	}, own...), b.opts.Extra[service])
}

// nodes returns PURSER_CHAIN_RPC_URLS: chain id=URL, separated by commas.
func (b *Infrastructure) nodes() string {
	if b.Chain != nil {
		return fmt.Sprintf("%d=%s", b.Chain.ChainID(), b.Chain.URL())
	}
	return b.opts.External.Chain
}

// chains returns the chain ids of nodes, on which wallets may sign in.
func (b *Infrastructure) chains() string {
	var ids []string
	for node := range strings.SplitSeq(b.nodes(), ",") {
		id, _, _ := strings.Cut(strings.TrimSpace(node), "=")
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, ",")
}

// baseURL is that of auth's HTTP port.
func (b *Infrastructure) baseURL() string {
	return strings.TrimRight(cmp.Or(b.opts.BaseURL, "http://"+loopback(b.opts.Ports.AuthHTTP)), "/")
}

// HostedStart is the page that signs a browser in with the provider "local" or "local-github".
func (b *Infrastructure) HostedStart(provider string) string {
	return b.baseURL() + "/oauth/" + provider + "/start?return_to=" + url.QueryEscape(b.Login.AppURL())
}

func (b *Infrastructure) redisURL() string {
	if b.Redis != nil {
		return b.Redis.URL()
	}
	return b.opts.External.Redis
}

func keySetURL(e Endpoints) string { return "http://" + e.AuthHTTP + "/.well-known/jwks.json" }

// ShortKeys are settings of auth with which all verifiers know the next signing key within 2.25 seconds, so that a
// rotation can be watched; with the defaults that takes about six minutes. All processes share one clock.
func ShortKeys() []string {
	return []string{"PURSER_KEYS_JWKS_MAX_AGE=2s", "PURSER_KEYS_POLL=250ms", "PURSER_KEYS_CLOCK_SKEW=0s",
		"PURSER_KEYS_SIGNER_LEASE=10s"}
}
