package postgres

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// hosts orders the hosts of a URL, so that one that hangs costs little. Each attempt to connect begins with the host
// that took the last connection, and no host gets more than its share of the time that is left. It is safe for
// concurrent use.
type hosts struct {
	lookup pgconn.LookupFunc

	mu       sync.Mutex
	resolved map[string][]string // the IP addresses of each host, as last resolved
	last     string              // the address of the server that took the last connection; "" before the first
}

// hostsOf are the hosts of c in their order, each once for each way to speak to it: with TLS and without.
func hostsOf(c *pgx.ConnConfig) []*pgconn.FallbackConfig {
	return append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
}

// orderHosts has c note which of its hosts takes a connection.
func orderHosts(c *pgx.ConnConfig) *hosts {
	h := &hosts{lookup: c.LookupFunc, resolved: map[string][]string{}}
	c.LookupFunc = h.resolve
	c.AfterConnect = h.note
	return h
}

// resolve implements pgconn.LookupFunc. Where a name has several addresses, that of the last connection comes first.
func (h *hosts) resolve(ctx context.Context, host string) ([]string, error) {
	addresses, err := h.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolved[host] = addresses
	ip, _, err := net.SplitHostPort(h.last)
	if i := slices.Index(addresses, ip); err == nil && i > 0 {
		return slices.Concat([]string{ip}, addresses[:i], addresses[i+1:]), nil
	}
	return addresses, nil
}

// note notes which server took a connection.
func (h *hosts) note(_ context.Context, c *pgconn.PgConn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = c.Conn().RemoteAddr().String()
	return nil
}

// order sets the order of c's hosts and the time that each has. It is an OptionBeforeConnect.
func (h *hosts) order(ctx context.Context, c *pgx.ConnConfig) error {
	all := hostsOf(c)
	servers := map[string]bool{} // a server that is tried with TLS and without is there twice
	for _, f := range all {
		_, address := pgconn.NetworkAddress(f.Host, f.Port)
		servers[address] = true
	}
	if len(servers) == 1 {
		return nil
	}
	var first, others []*pgconn.FallbackConfig
	h.mu.Lock()
	for _, f := range all {
		if h.isLastHost(f) {
			first = append(first, f)
		} else {
			others = append(others, f)
		}
	}
	h.mu.Unlock()
	all = slices.Concat(first, others)
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = all[0].Host, all[0].Port, all[0].TLSConfig, all[1:]
	if end, ok := ctx.Deadline(); ok {
		share := max(time.Until(end)/time.Duration(len(servers)), time.Millisecond)
		c.ConnectTimeout = min(c.ConnectTimeout, share)
	}
	return nil
}

// isLastHost reports whether the last connection was to this host.
func (h *hosts) isLastHost(f *pgconn.FallbackConfig) bool {
	addresses := append([]string{f.Host}, h.resolved[f.Host]...) // a folder of sockets is not resolved
	return slices.ContainsFunc(addresses, func(a string) bool {
		_, address := pgconn.NetworkAddress(a, f.Port)
		return address == h.last
	})
}
