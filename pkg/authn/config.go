package authn

import (
	"errors"
	"strings"

	"github.com/purserhq/purser/pkg/config"
)

// Config is what a service that verifies tokens reads from PURSER_*.
type Config struct {
	// Issuer is the URL that tokens must name as their issuer. JWKSURL is that of
	// its key set; by default the issuer's /.well-known/jwks.json.
	Issuer  string `env:"ISSUER,required,notEmpty"`
	JWKSURL string `env:"JWKS_URL"`
}

// Validate returns all that is wrong with c, joined, each error naming the variable.
func (c Config) Validate() error {
	var invalid []error
	for _, u := range []struct{ name, value string }{{"PURSER_ISSUER", c.Issuer}, {"PURSER_JWKS_URL", c.JWKSURL}} {
		if u.value != "" && !config.IsHTTPURL(u.value) {
			invalid = append(invalid, errors.New(u.name+" must be an http or https URL"))
		}
	}
	return errors.Join(invalid...)
}

// KeySetURL returns the URL of the issuer's key set.
func (c Config) KeySetURL() string {
	if c.JWKSURL != "" {
		return c.JWKSURL
	}
	return strings.TrimRight(c.Issuer, "/") + "/.well-known/jwks.json"
}
