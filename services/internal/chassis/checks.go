package chassis

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/internal/probe"
)

// silentAfter is the age of the known revocations from which on their stream counts
// as unreachable: an issuer sends a heartbeat every authn.RevocationHeartbeat.
const silentAfter = 3 * authn.RevocationHeartbeat

func (b *Builder) watchDatabaseAndRedis() error {
	b.DependsOn(dependency.Check{
		Name: "postgres", Address: b.DB.Address(), Probe: b.DB.Probe, Secrets: []string{b.cfg.Database.URL.Reveal()},
		Effect: "Calls that read or write the service's data fail or wait until their deadline, and no job runs.",
	})
	redis, err := redisx.NewProbe(redisx.Options{URL: b.cfg.RedisURL.Reveal(), Name: qualified(b.name) + "-probe",
		Timeout: dependency.Interval})
	if err != nil {
		return fmt.Errorf("open Redis: %w", err)
	}
	b.Group.Close("redis probe", redis.Close)
	b.needRedis(redis)
	b.DependsOn(dependency.Check{
		Name: "redis", Address: redis.Address(), Probe: redis.Check, Secrets: []string{b.cfg.RedisURL.Reveal()},
		Effect: "Nothing is cached, so that calls are slower, and what needs Redis alone fails: see docs/outages.md.",
	})
	return nil
}

// watchAuth watches the key set, and the stream of revocations if there is one.
func (b *Builder) watchAuth(c AuthConfig, transport http.RoundTripper, revoked *authn.Revocations, streamed bool) {
	b.needIssuer(c.Tokens, transport)
	keySet := c.Tokens.KeySetURL()
	b.DependsOn(dependency.Check{
		Name: "auth_keys", Address: redact.URL(keySet), Secrets: []string{keySet},
		Probe:  func(ctx context.Context) error { return probe.KeySet(ctx, transport, keySet) },
		Effect: "Tokens are verified with the keys that are known, for an hour; a token of a new key is refused.",
	})
	if !streamed {
		return
	}
	b.DependsOn(dependency.Check{
		Name: "auth_revocations", Address: c.Auth.Addr,
		Probe: func(context.Context) error {
			if age := revoked.Age(); age > silentAfter {
				return dependency.Failed("STREAM_SILENT",
					fmt.Errorf("the revocations were last complete %s ago", age.Round(time.Second)))
			}
			return nil
		},
		Effect: "A token that is revoked in the meantime is accepted until it expires.",
	})
}

// DependsOnService has another service of the suite watched, by its health.
func (b *Builder) DependsOnService(name, addr string, conn *grpc.ClientConn, effect string) {
	health := healthpb.NewHealthClient(conn)
	b.DependsOn(dependency.Check{
		Name: name, Address: addr, Effect: effect,
		Probe: func(ctx context.Context) error {
			answer, err := health.Check(ctx, &healthpb.HealthCheckRequest{})
			if err != nil {
				return err
			}
			if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				return dependency.Failed("NOT_SERVING", errors.New("its health is "+answer.GetStatus().String()))
			}
			return nil
		},
	})
}
