package authn

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/pkg/tlsfiles"
)

// Config is what a service that verifies tokens reads from PURSER_*.
type Config struct {
	// Issuer is the URL that tokens must name as their issuer. JWKSURL is that of
	// its key set; by default the issuer's /.well-known/jwks.json.
	Issuer  string `env:"ISSUER,required,notEmpty"`
	JWKSURL string `env:"JWKS_URL"`
	// JWKSCAFile is a PEM file of authorities to trust for the key set's URL, instead of the
	// system's. It is read again when it changes.
	JWKSCAFile string `env:"JWKS_TLS_CA"`
}

// Validate returns all that is wrong with c, joined, each error naming the variable.
func (c Config) Validate() error {
	var invalid []error
	for _, u := range []struct{ name, value string }{{"PURSER_ISSUER", c.Issuer}, {"PURSER_JWKS_URL", c.JWKSURL}} {
		if u.value != "" && !config.IsHTTPURL(u.value) {
			invalid = append(invalid, errors.New(u.name+" must be an http or https URL"))
		}
	}
	if c.JWKSCAFile != "" && !strings.HasPrefix(c.KeySetURL(), "https://") {
		invalid = append(invalid, errors.New("PURSER_JWKS_TLS_CA is set, but the URL of the key set "+
			"(PURSER_JWKS_URL, or under PURSER_ISSUER) is not https"))
	}
	return errors.Join(invalid...)
}

// Check returns an error when a file that c names can't be read or is invalid.
func (c Config) Check() error {
	_, err := c.Transport(slog.New(slog.DiscardHandler))
	return err
}

// Transport returns what requests for the key set go over: one that trusts JWKSCAFile, or
// a copy of the default transport.
func (c Config) Transport(log *slog.Logger) (http.RoundTripper, error) {
	if c.JWKSCAFile == "" {
		return httpx.Default(), nil
	}
	roots, err := tlsfiles.LoadRoots(c.JWKSCAFile, log)
	if err != nil {
		return nil, fmt.Errorf("PURSER_JWKS_TLS_CA: %w", err)
	}
	return tlsfiles.NewTransport(roots), nil
}

// RemoteKeys returns the keys that c names, as NewRemoteKeys does.
func (c Config) RemoteKeys(log *slog.Logger) (*RemoteKeys, error) {
	transport, err := c.Transport(log)
	if err != nil {
		return nil, err
	}
	return newRemoteKeys(c.KeySetURL(), log, transport), nil
}

// KeySetURL returns the URL of the issuer's key set.
func (c Config) KeySetURL() string {
	if c.JWKSURL != "" {
		return c.JWKSURL
	}
	return strings.TrimRight(c.Issuer, "/") + "/.well-known/jwks.json"
}
