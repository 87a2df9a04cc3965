package suite

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/purserhq/purser/pkg/config"
	authapp "github.com/purserhq/purser/services/auth/app"
	portfolioapp "github.com/purserhq/purser/services/portfolio/app"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

// checkSettings returns every error in the settings that the caller chose for the services, one a line, before a
// server is started. The address of nothing stands for the servers that the suite starts.
func (b *Infrastructure) checkSettings() error {
	const nowhere = "127.0.0.1:1"
	standIn := &Infrastructure{opts: b.opts, kekFile: b.kekFile}
	external, embedded := standIn.opts.External, ""
	if external.Prices == "" {
		embedded = "http://" + nowhere
	}
	if external.Chain == "" {
		standIn.priceFeeds = filepath.Join(b.opts.Dir, "feeds.json")
	} else if external.Prices == "" {
		return errors.New("PURSER_CHAIN_RPC_URLS is set: PURSER_PRICE_URL must be set too, because the embedded " +
			"price feed only knows the tokens of the embedded chain")
	}
	settings := append([]string{
		"PURSER_GRPC_ADDR=" + nowhere, "PURSER_GRPC_PLAINTEXT=true", "PURSER_HTTP_ADDR=" + nowhere,
		"PURSER_AUTH_ADDR=" + nowhere, "PURSER_AUTH_PLAINTEXT=true",
		"PURSER_WALLET_ADDR=" + nowhere, "PURSER_WALLET_PLAINTEXT=true",
		"PURSER_DATABASE_URL=" + cmp.Or(external.Database, "postgres://"+nowhere+"/purser"),
		"PURSER_REDIS_URL=" + cmp.Or(external.Redis, "redis://"+nowhere),
		"PURSER_CHAIN_RPC_URLS=" + cmp.Or(external.Chain, "1=http://"+nowhere),
		"PURSER_ISSUER=" + b.Issuer(), "PURSER_HTTP_BASE_URL=" + b.baseURL(),
		"PURSER_JWKS_URL=http://" + nowhere, "PURSER_KEK_FILE=" + b.kekFile,
		"PURSER_SMTP_ADDR=" + nowhere, "PURSER_SMTP_TLS=none", "PURSER_SMTP_FROM=no-reply@purser.localhost",
		"PURSER_SIWE_DOMAIN=" + nowhere, "PURSER_SIWE_URI=http://" + nowhere,
	}, standIn.priceSourcesOf(embedded)...)
	_, auth := authapp.Load(Override(settings, b.opts.Extra["auth"]))
	_, wallet := walletapp.Load(Override(settings, b.opts.Extra["wallet"]))
	_, portfolio := portfolioapp.Load(Override(settings, b.opts.Extra["portfolio"]))
	return eachOnce(auth, wallet, portfolio)
}

// eachOnce joins errors of several lines. A line that several have is told once, since services share settings.
func eachOnce(all ...error) error {
	var lines []string
	for _, err := range all {
		if err == nil {
			continue
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if line != config.ErrorHeading && !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(lines, "\n"))
}
