package suite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/purserhq/purser/pkg/testkit/port"
)

// Ports of the suite on 127.0.0.1, consecutive from a base; 0 lets the system choose.
type Ports struct {
	Auth, Wallet, Portfolio        int // gRPC
	AuthHTTP                       int // key set
	Chain, Prices, Postgres, Redis int // embedded parts
	Mail                           int // SMTP
	Login                          int // identity provider
	Console                        int // web page
}

// DefaultPort is the default base.
const DefaultPort = 7600

// PortsFrom returns the ports base+1 to base+11.
func PortsFrom(base int) Ports {
	return Ports{
		Auth: base + 1, Wallet: base + 2, Portfolio: base + 3, AuthHTTP: base + 4,
		Chain: base + 5, Prices: base + 6, Postgres: base + 7, Redis: base + 8, Mail: base + 9,
		Login: base + 10, Console: base + 11,
	}
}

// How long a service's port may stay in use after the service ended.
const (
	portTries = 200
	portPause = 10 * time.Millisecond
)

const freePorts = "stop the program that listens there, or set PURSER_DEV_PORT to the number before eleven free " +
	"ports"

// check returns an error for every port in use. It leaves out those of Postgres and Redis: their start
// first stops a server that a killed suite left running.
func (p Ports) check(ctx context.Context) error {
	var busy []error
	for _, p := range []struct {
		name string
		n    int
	}{
		{"auth", p.Auth}, {"wallet", p.Wallet}, {"portfolio", p.Portfolio}, {"auth HTTP", p.AuthHTTP},
		{"chain", p.Chain}, {"prices", p.Prices}, {"mail", p.Mail}, {"login", p.Login}, {"console", p.Console},
	} {
		if p.n == 0 {
			continue
		}
		if port.Used(ctx, p.n) {
			busy = append(busy, fmt.Errorf("port %d (%s) is in use: %s", p.n, p.name, freePorts))
		}
	}
	return errors.Join(busy...)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// unusedPort returns a port that nothing listens on. It is below those that systems give to connections, so that
// it is still free when auth starts.
func unusedPort(ctx context.Context) (int, error) {
	const lowest, highest, tries = 12000, 21000, 100
	for range tries {
		if p := lowest + rand.IntN(highest-lowest); !port.Used(ctx, p) {
			return p, nil
		}
	}
	return 0, errors.New("no port between 12000 and 21000 is free for auth's HTTP")
}
