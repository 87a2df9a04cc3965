// Package loopback listens on addresses that other machines cannot reach.
package loopback

import (
	"context"
	"fmt"
	"net"
)

// Listen listens on addr, host:port, whose host must be a loopback address. Port 0 lets the system choose.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("%q is not a loopback address", addr)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", tcp.String())
}
