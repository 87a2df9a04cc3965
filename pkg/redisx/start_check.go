package redisx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrMode is returned for a server that isn't what the URL says: a node of a Cluster or a
// Sentinel in place of a single server.
var ErrMode = errors.New("redis: the server is not a single one")

// Accepts returns nil if the Redis does what a service needs: it answers PING, is of the
// kind that the URL says, and runs a script that writes a key, which expires at once. The
// key has to be one that the service's user may write. It is for the start of a process;
// [IsRefusal] tells a refusal from an outage.
func (p *Probe) Accepts(ctx context.Context, key string) error {
	if err := p.Check(ctx); err != nil {
		return err
	}
	if c, ok := p.client.(*redis.Client); ok {
		if err := checkMode(ctx, c); err != nil {
			return err
		}
	}
	script := redis.NewScript(`return redis.call('SET', KEYS[1], '', 'PX', ARGV[1])`)
	if err := script.Run(ctx, p.client, []string{key}, time.Millisecond.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// checkMode asks by HELLO, which every user may send, what the server is.
func checkMode(ctx context.Context, c *redis.Client) error {
	answer, err := c.Do(ctx, "HELLO").Result()
	if err != nil {
		return nil //nolint:nilerr // a server that is older than HELLO, 6.0, or a proxy
	}
	var mode string
	switch fields := answer.(type) {
	case map[any]any:
		mode, _ = fields["mode"].(string)
	case []any:
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i] == "mode" {
				mode, _ = fields[i+1].(string)
			}
		}
	}
	switch mode {
	case "cluster":
		return fmt.Errorf("%w: it is a node of a Cluster, which would answer MOVED; add cluster=true to the URL",
			ErrMode)
	case "sentinel":
		return fmt.Errorf("%w: it is a Sentinel; begin the URL with redis+sentinel://", ErrMode)
	}
	return nil
}

// IsRefusal reports whether a Redis that can be reached doesn't accept the client, or the
// client doesn't trust it, so that only another setting helps: a wrong password, a command
// or key that the user may not use, a node of a Cluster for a single server or the
// reverse, a certificate that isn't trusted.
func IsRefusal(err error) bool {
	if errors.Is(err, ErrMode) {
		return true
	}
	var untrusted *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	if errors.As(err, &untrusted) || errors.As(err, &record) || errors.As(err, &authority) {
		return true
	}
	var reply redis.Error
	if !errors.As(err, &reply) || errors.Is(err, redis.Nil) {
		return false
	}
	for _, word := range []string{"WRONGPASS", "NOAUTH", "NOPERM", "MOVED", "ERR AUTH", "ERR invalid password",
		"ERR Client sent AUTH", "ERR This instance has cluster support disabled", "ERR DB index is out of range"} {
		if strings.HasPrefix(reply.Error(), word) {
			return true
		}
	}
	return false
}
