package app

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/tlsfiles"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/device"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/revocation"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/internal/chainurl"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/seal"
)

// Config of the auth service, read from PURSER_*.
type Config struct {
	chassis.Config
	// HTTPAddr serves the key set, the discovery documents and the hosted pages.
	HTTPAddr string `env:"HTTP_ADDR" envDefault:"127.0.0.1:0"`
	// HTTPTLSCert and HTTPTLSKey are PEM files with which the HTTP port serves TLS, 1.2 or
	// later; they are read again when they change. Without them it serves without TLS.
	HTTPTLSCert string `env:"HTTP_TLS_CERT"`
	HTTPTLSKey  string `env:"HTTP_TLS_KEY"`
	// BaseURL is the URL at which verifiers and browsers reach the HTTP port: the
	// discovery documents name the key set under it. The issuer when empty.
	BaseURL string      `env:"HTTP_BASE_URL"`
	Cache   CacheConfig `envPrefix:"CACHE_"`
	// Issuer that tokens name. Verifiers that read a discovery document look for it
	// under this URL, so it should be one that leads to the HTTP port.
	Issuer string `env:"ISSUER,required,notEmpty"`
	// KEK seals the private keys at rest: 32 bytes in base64, best from
	// PURSER_KEK_FILE.
	KEK config.Secret `env:"KEK,required,notEmpty"`
	// KEKPrevious is one that rows may still be under, until "keys rewrap".
	KEKPrevious config.Secret  `env:"KEK_PREVIOUS"`
	Keys        signing.Policy `envPrefix:"KEYS_"`
	Session     session.Policy `envPrefix:""`
	// Revocations says how verifiers are told what was revoked.
	Revocations revocation.Policy `envPrefix:"REVOCATIONS_"`
	// MinPassword in characters.
	MinPassword int `env:"MIN_PASSWORD" envDefault:"15"`
	// TOTPName is what an authenticator app shows beside the account.
	TOTPName string `env:"TOTP_NAME" envDefault:"Purser"`
	// SecondFactorRemovalDelay is how long a second factor stays after an admin asked for
	// its removal, in which its owner can keep it.
	SecondFactorRemovalDelay time.Duration `env:"SECOND_FACTOR_REMOVAL_DELAY" envDefault:"24h"`
	// HashesAtOnce bounds the memory and the processors that password checks take:
	// 19 MiB and one each. 0 is what a quarter of the memory has room for, and one less
	// than the processors, but at least one.
	HashesAtOnce int `env:"PASSWORD_HASHES_AT_ONCE" envDefault:"0"`
	// PasswordProcess hashes in a process of low priority, so that other calls
	// hardly wait for a processor that hashes.
	PasswordProcess bool `env:"PASSWORD_PROCESS" envDefault:"true"`
	// CheapHashes is for tests, which make thousands of hashes: no setting sets it. Passwords with such hashes are
	// guessed as fast as a processor can.
	CheapHashes bool
	// BreachedAPI is the base URL of a service that knows passwords from
	// breaches, beside the built-in list: Have I Been Pwned's is
	// https://api.pwnedpasswords.com/range. Empty for none.
	BreachedAPI string `env:"BREACHED_API_URL"`
	// Floor is the least time that an answer takes which must not tell whether
	// an account exists.
	Floor time.Duration `env:"AUTH_FLOOR" envDefault:"500ms"`
	// DeletionGrace is how long an account is kept, disabled, that its owner asked to
	// delete: 0 deletes it at once, at most 90 days (2160h).
	DeletionGrace time.Duration `env:"DELETION_GRACE" envDefault:"0s"`
	Mail          mail.Config
	OAuth         OAuthConfig `envPrefix:"OAUTH_"`
	SIWE          SIWEConfig  `envPrefix:"SIWE_"`
	// ChainRPCURLs has the JSON-RPC nodes that contract wallets are asked on,
	// chain=url, separated by commas. Of a chain with two or more, two have to
	// agree.
	ChainRPCURLs chainurl.Nodes `env:"CHAIN_RPC_URLS"`
	Attempts     attempts.Policy
}

// CacheConfig says how long things are cached.
type CacheConfig struct {
	// User is of what GetMe answers: how late a change past this service shows.
	User time.Duration `env:"USER_TTL" envDefault:"1m"`
}

// Validate reports every error in c.
func (c CacheConfig) Validate() error {
	if c.User <= 0 {
		return errors.New("PURSER_CACHE_USER_TTL must be above 0")
	}
	return nil
}

// Validate reports every error in c.
func (c Config) Validate() error {
	found := []error{c.Config.Validate(), config.HostPort("PURSER_HTTP_ADDR", c.HTTPAddr), c.policy().Validate(),
		c.revocations().Validate(), c.Cache.Validate(), chassis.CheckCron("PURSER_KEYS_ROTATION_CRON", c.Keys.Cron),
		c.Session.Validate(), c.Attempts.Validate(), c.Mail.Validate(), c.OAuth.Validate(), c.SIWE.Validate(),
		c.ChainRPCURLs.Check("PURSER_CHAIN_RPC_URLS")}
	found = append(found, checkBase("PURSER_ISSUER", c.Issuer), checkBase("PURSER_HTTP_BASE_URL", c.BaseURL))
	if (c.HTTPTLSCert == "") != (c.HTTPTLSKey == "") {
		found = append(found, errors.New("PURSER_HTTP_TLS_CERT and PURSER_HTTP_TLS_KEY must be set together"))
	}
	if c.KEK != "" {
		if _, err := c.sealer(); err != nil {
			found = append(found, err)
		}
	}
	if c.MinPassword < 8 || c.MinPassword > account.MaxPassword {
		found = append(found, fmt.Errorf("PURSER_MIN_PASSWORD must be 8 to %d", account.MaxPassword))
	}
	if c.TOTPName == "" || strings.Contains(c.TOTPName, ":") {
		found = append(found, errors.New("PURSER_TOTP_NAME must be a name without a colon"))
	}
	if c.SecondFactorRemovalDelay < 0 || c.SecondFactorRemovalDelay > 30*24*time.Hour {
		found = append(found, errors.New("PURSER_SECOND_FACTOR_REMOVAL_DELAY must be 0 to 720h"))
	}
	if c.HashesAtOnce < 0 {
		found = append(found, errors.New("PURSER_PASSWORD_HASHES_AT_ONCE must be at least 0"))
	}
	if c.BreachedAPI != "" && !config.IsHTTPURL(c.BreachedAPI) {
		found = append(found, errors.New("PURSER_BREACHED_API_URL must be an http or https URL"))
	}
	if c.Floor < 0 || c.Floor > 5*time.Second {
		found = append(found, errors.New("PURSER_AUTH_FLOOR must be 0 to 5s"))
	}
	if c.DeletionGrace < 0 || c.DeletionGrace > maxDeletionGrace {
		found = append(found, errors.New("PURSER_DELETION_GRACE must be 0 to 2160h (90 days)"))
	}
	return errors.Join(found...)
}

// CheckForServe checks what only "serve" needs: the files that c names.
func (c Config) CheckForServe() error {
	_, err := c.httpTLS(slog.New(slog.DiscardHandler))
	return errors.Join(c.Config.CheckForServe(), err)
}

// httpTLS is the TLS of the HTTP port; nil for none. TLS 1.2 is allowed, since proxies and
// libraries that read the key set are not ours.
func (c Config) httpTLS(log *slog.Logger) (*tls.Config, error) {
	if c.HTTPTLSCert == "" || c.HTTPTLSKey == "" {
		return nil, nil //nolint:nilnil // TLS is optional
	}
	pair, err := tlsfiles.LoadPair(c.HTTPTLSCert, c.HTTPTLSKey, log)
	if err != nil {
		return nil, fmt.Errorf("PURSER_HTTP_TLS_CERT, PURSER_HTTP_TLS_KEY: %w", err)
	}
	return tlsfiles.Server{Pair: pair, MinVersion: tls.VersionTLS12}.Config(), nil
}

// maxDeletionGrace is what a deletion that was asked for may be put off.
const maxDeletionGrace = 90 * 24 * time.Hour

// checkBase returns an error, naming the variable, unless its value is empty or a URL to which
// paths can be appended (RFC 8414, section 2: no query, no fragment).
func checkBase(variable, value string) error {
	if value == "" || config.IsHTTPURL(value) && !strings.ContainsAny(value, "?#") {
		return nil
	}
	return fmt.Errorf("%s must be an http or https URL without a query or fragment", variable)
}

// baseURL is the URL of the HTTP port for verifiers and browsers, without a slash at its end.
func (c Config) baseURL() string { return strings.TrimRight(cmp.Or(c.BaseURL, c.Issuer), "/") }

// policy of the keys, with what it takes from the sessions'.
func (c Config) policy() signing.Policy {
	p := c.Keys
	p.TokenTTL = max(c.Session.Access, apikey.TokenTTL, serviceaccount.TokenTTL)
	return p
}

// revocations are told as the policy of the keys asks for.
func (c Config) revocations() revocation.Policy {
	p, keys := c.Revocations, c.policy()
	p.TokenTTL, p.Skew = keys.TokenTTL, keys.Skew
	return p
}

// sealer of what is secret at rest.
func (c Config) sealer() (*seal.Sealer, error) {
	current, previous, err := c.keks()
	if err != nil {
		return nil, err
	}
	return seal.New(current, previous...)
}

// devices makes the tokens of devices, whose keys are derived from the key-encryption keys and rotate with them.
func (c Config) devices() (*device.Keys, error) {
	current, previous, err := c.keks()
	if err != nil {
		return nil, err
	}
	return device.NewKeys(current, previous...)
}

func (c Config) keks() (current []byte, previous [][]byte, err error) {
	return seal.Keys("PURSER_KEK", c.KEK, c.KEKPrevious)
}
