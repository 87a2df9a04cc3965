package child

import (
	"fmt"
	"net"
)

// FreePort returns a TCP port on 127.0.0.1 that no process listens on. Another process
// may listen on it before the caller does, which has to retry then.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a local bind does not wait
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// PortFree reports whether port on 127.0.0.1 can be listened on now.
func PortFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // a local bind does not wait
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
