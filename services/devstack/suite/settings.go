package suite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	authapp "github.com/purserhq/purser/services/auth/app"
	portfolioapp "github.com/purserhq/purser/services/portfolio/app"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

// configs are the settings of each service.
func configs() map[string]any {
	return map[string]any{"auth": authapp.Config{}, "wallet": walletapp.Config{}, "portfolio": portfolioapp.Config{}}
}

// fixed are the settings of services that a user of the suite cannot choose, with what to do instead.
func fixed() map[string]string {
	const (
		ports = "the suite chooses its ports: set PURSER_DEV_PORT to the number before the eleven to use"
		one   = "the services run in one process, which does not serve this port: run their programs (make build)"
		calls = "the suite connects its services with each other: run their programs (make build) to do it yourself"
		plain = "the suite listens on 127.0.0.1 only, without TLS: run the programs (make build) for TLS"
		kek   = "the suite has a key-encryption key of its own in its data folder"
		mails = "the suite has a mail server of its own, which delivers nothing and prints the mailed codes"
	)
	reasons := map[string]string{}
	for reason, names := range map[string]string{
		ports: "GRPC_ADDR HTTP_ADDR",
		one:   "GRPC_HEALTH_ADDR ADMIN_ADDR METRICS_ADDR",
		calls: "AUTH_ADDR WALLET_ADDR JWKS_URL SERVICE_ID SERVICE_SECRET",
		plain: "GRPC_PLAINTEXT GRPC_TLS_CERT GRPC_TLS_KEY GRPC_TLS_CLIENT_CA GRPC_TLS_CLIENT_IDS " +
			"AUTH_PLAINTEXT AUTH_TLS_CA AUTH_TLS_CERT AUTH_TLS_KEY AUTH_TLS_SERVER_ID " +
			"WALLET_PLAINTEXT WALLET_TLS_CA WALLET_TLS_CERT WALLET_TLS_KEY WALLET_TLS_SERVER_ID " +
			"HTTP_TLS_CERT HTTP_TLS_KEY JWKS_TLS_CA",
		kek:   "KEK KEK_PREVIOUS WEBHOOKS_KEK WEBHOOKS_KEK_PREVIOUS",
		mails: "SMTP_ADDR SMTP_USER SMTP_PASSWORD SMTP_TLS SMTP_FROM",
	} {
		for _, name := range strings.Fields(names) {
			reasons[config.Prefix+name] = reason
		}
	}
	return reasons
}

// readElsewhere are variables that neither the suite's settings nor those of a service have: where the embedded
// servers are installed, and settings of tests.
func readElsewhere() []string {
	return []string{pgserver.BinEnv, redisserver.BinEnv, "PURSER_PROVE", "PURSER_SCREENSHOTS", "PURSER_CHROMIUM"}
}

// Settings returns the variables of environ that services read, by service, for Options.Extra, without those that
// own reads: the caller's settings, a struct as config.Load takes it. The error has a line for each other PURSER_*
// variable, so that none is without effect and nobody is told.
func Settings(environ []string, own any) (map[string][]string, error) {
	extra := map[string][]string{}
	var refused []error
	for _, v := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, config.Prefix) || reads(own, v) || slices.Contains(readElsewhere(), name) {
			continue
		}
		if reason, ok := fixed()[strings.TrimSuffix(name, "_FILE")]; ok {
			refused = append(refused, fmt.Errorf("%s can't be set here: %s", name, reason))
			continue
		}
		used := false
		for service, cfg := range configs() {
			if reads(cfg, v) {
				extra[service] = append(extra[service], v)
				used = true
			}
		}
		if !used {
			refused = append(refused, fmt.Errorf("%s is no setting of the suite or of a service: check its spelling, "+
				"or unset it", name))
		}
	}
	return extra, errors.Join(refused...)
}

// reads reports whether a configuration has the variable of NAME=value, itself or as NAME_FILE.
func reads(cfg any, variable string) bool { return len(config.Unread([]string{variable}, cfg)) == 0 }

// Override returns base with the variables of more in place of those with the same name. NAME_FILE takes the place
// of NAME too, since a service accepts only one of them.
func Override(base, more []string) []string {
	plain := func(v string) string {
		name, _, _ := strings.Cut(v, "=")
		return strings.TrimSuffix(name, "_FILE")
	}
	return append(slices.DeleteFunc(slices.Clone(base), func(v string) bool {
		return slices.ContainsFunc(more, func(m string) bool { return plain(m) == plain(v) })
	}), more...)
}
