// Package port finds TCP ports on 127.0.0.1 for servers that are started next.
//
// It promises nothing about the time after: another process may take a free port before the server does. A program
// that listened on a port itself and starts others asks Used before it listens again, because each program that is
// being started has a copy of the closed listener until it runs, and keeps the port in use as long.
package port

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"
)

const dialTimeout = 5 * time.Second // a listener whose queue is full doesn't answer

// Free returns a port that no process listens on. The system chooses it from those that it also gives to connections.
func Free(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Used reports whether a process listens on a port. It connects: a listener of its own would itself be copied to
// programs that are being started, and would keep the port in use after it is closed.
func Used(ctx context.Context, port int) bool {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		var e net.Error
		return errors.As(err, &e) && e.Timeout()
	}
	toItself := conn.LocalAddr().String() == conn.RemoteAddr().String() // the system chose it for this
	return conn.Close() == nil && !toItself
}
