package authn

import (
	"errors"
	"strings"

	"github.com/purserhq/purser/pkg/config"
)

// Config is what a service that verifies tokens reads from PURSER_*.
type Config struct {
	// Issuer that tokens must name, and where its key set is; the set's URL
	// is the issuer's /.well-known/jwks.json unless set.
	Issuer  string `env:"ISSUER,required,notEmpty"`
	JWKSURL string `env:"JWKS_URL"`
}

// Validate reports every mistake in c.
func (c Config) Validate() error {
	var mistakes []error
	for _, u := range []struct{ name, value string }{{"PURSER_ISSUER", c.Issuer}, {"PURSER_JWKS_URL", c.JWKSURL}} {
		if u.value != "" && !config.IsHTTPURL(u.value) {
			mistakes = append(mistakes, errors.New(u.name+" must be an http or https URL"))
		}
	}
	return errors.Join(mistakes...)
}

// KeySetURL is where the issuer's keys are read.
func (c Config) KeySetURL() string {
	if c.JWKSURL != "" {
		return c.JWKSURL
	}
	return strings.TrimRight(c.Issuer, "/") + "/.well-known/jwks.json"
}
