package chassis

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/internal/probe"
	"github.com/purserhq/purser/services/internal/startup"
)

const (
	// startTimeout bounds the first attempt to become ready, before the ports are served.
	startTimeout = 5 * time.Second
	// SchemaReady is the name of the check that the database has the service's schema.
	SchemaReady = "schema"
	// postgresReady is the name of the check that the database accepts the service, which
	// is also watched by this name.
	postgresReady = "postgres"
)

// Needs adds something that the service can't work without. It is not ready, and takes
// no calls, until that has worked once.
func (b *Builder) Needs(c startup.Check) { b.gate.Add(c) }

// Loop adds a loop that runs from when the service is ready until draining starts.
func (b *Builder) Loop(name string, loop func(context.Context) error) {
	b.Group.Loop(name, func(ctx context.Context) error {
		if !b.gate.Wait(ctx) {
			return nil
		}
		return loop(ctx)
	})
}

// FromReady answers with 503 until the service is ready, and passes requests to h from
// then on.
func (b *Builder) FromReady(h http.Handler) http.Handler { return b.gate.Handler(h) }

// tryToStart makes the first attempt, so that a service whose dependencies work is ready
// from its first call on.
func (b *Builder) tryToStart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	b.gate.Try(ctx)
}

// needDatabase has the service wait for its database: a login that works, a server that
// takes writes, and the schema of these migrations.
func (b *Builder) needDatabase(ctx context.Context, migrations fs.FS) {
	secrets := []string{b.cfg.Database.URL.Reveal()}
	b.gate.Begin(ctx, startup.Check{
		Name: postgresReady, Settings: "PURSER_DATABASE_URL, PURSER_DATABASE_PGBOUNCER", Secrets: secrets,
		Probe: b.DB.Accepts,
	})
	b.Needs(startup.Check{
		Name: "clock", Settings: "the clocks of this machine and of the database's", Secrets: secrets,
		After: []string{postgresReady},
		Probe: func(ctx context.Context) error {
			skew, err := b.DB.ClockSkew(ctx)
			if err == nil && skew.Abs() > authn.Leeway {
				err = dependency.Failed("CLOCK_SKEWED", fmt.Errorf("this machine's clock is %s from the database's, "+
					"ahead if above 0; tokens are good for a difference of %s at most", skew.Round(time.Second),
					authn.Leeway))
			}
			return err
		},
	})
	b.Needs(startup.Check{
		Name: SchemaReady, Settings: "PURSER_DATABASE_URL", Secrets: secrets, After: []string{postgresReady},
		Probe: func(ctx context.Context) error {
			s, err := postgres.CheckSchema(ctx, b.DB, migrations)
			if err == nil && s.Newer() {
				b.Log.WarnContext(ctx, "the database schema is newer than this program", "database", s.Version,
					"program", s.Known)
			}
			return err
		},
	})
}

// needRedis has the service wait for a Redis that refuses it: a wrong password, commands
// that its user may not use, a node of a Cluster that is used as a single server, a
// certificate that isn't trusted. One that doesn't answer is no reason to wait, since
// most of the service works without.
func (b *Builder) needRedis(p *redisx.Probe) {
	b.Needs(startup.Check{
		Name: "redis", Settings: "PURSER_REDIS_URL", Secrets: []string{b.cfg.RedisURL.Reveal()},
		Probe: func(ctx context.Context) error {
			limited, cancel := context.WithTimeout(ctx, dependency.Interval)
			defer cancel()
			err := p.Accepts(limited, redisx.Key("purser:"+b.name+":start:", "probe"))
			if redisx.IsRefusal(err) {
				return err
			}
			return nil
		},
	})
}

// needIssuer has the service wait for the keys of the tokens' issuer, and for the issuer
// to call itself what the service calls it. Other issuers than auth may have no document
// that names them.
func (b *Builder) needIssuer(c authn.Config, transport http.RoundTripper) {
	keySet := c.KeySetURL()
	b.Needs(startup.Check{
		Name: "auth_keys", Settings: "PURSER_ISSUER, PURSER_JWKS_URL, PURSER_JWKS_TLS_CA", Secrets: []string{keySet},
		Probe: func(ctx context.Context) error {
			if err := probe.KeySet(ctx, transport, keySet); err != nil {
				return err
			}
			issuer, err := probe.Issuer(ctx, transport, keySet)
			if err == nil && issuer != "" && issuer != c.Issuer {
				return dependency.Failed("ISSUER_MISMATCH", fmt.Errorf(
					"tokens are issued in the name of %q, but PURSER_ISSUER is %q: every token would be refused",
					issuer, c.Issuer))
			}
			return err
		},
	})
}
