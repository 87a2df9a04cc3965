#!/usr/bin/env bash
# Software:  net/http of Go 1.26, its client with HTTP/2
# Expected:  after a request that has timed out the next one gets another connection, as with HTTP/1.1: a connection
#            that was lost without a word, at a firewall or by the other side's machine, costs one request.
# Observed:  every request goes to the connection that is lost, and times out, though a new one would work. That lasts
#            until the system gives the connection up, about a quarter of an hour on Linux, or the requests stop for
#            longer than IdleConnTimeout.
# Cause:     the end of a request ends its stream only, and a timeout says nothing of the connection that other
#            requests share. Nobody asks whether it is alive: HTTP2.SendPingTimeout is zero, unless it is set.
# Care:      http.DefaultTransport and its clones speak HTTP/2 to whoever offers it. Set HTTP2 to
#            &http.HTTP2Config{SendPingTimeout: …, PingTimeout: …} in every client that asks more often than
#            IdleConnTimeout, 90 s. CloseIdleConnections helps too, but not at once: the stream that has timed out is
#            there for a moment.
# Output:    requests with a timeout of 500ms, after their connection has passed nothing any more
#            HTTP/2.0: timeout, timeout, timeout, timeout, timeout, timeout; new connections: 0
#            HTTP/1.1: timeout, done, done, done, done, done; new connections: 1
#            HTTP/2.0, SendPingTimeout 300ms: an error, done, done, done, done, done; new connections: 1
#            HTTP/2.0, CloseIdleConnections 100ms later: timeout, done, done, done, done, done; new connections: 1
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25
MOD
cat > main.go <<'GO'
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const limit = 500 * time.Millisecond

// network passes connections on to a server. Those up to the number lost pass nothing any more, and stay open.
type network struct {
	net.Listener
	opened, lost atomic.Int32
}

func (n *network) serve(server string) {
	for {
		client, err := n.Accept()
		if err != nil {
			return
		}
		number := n.opened.Add(1)
		up, err := net.Dial("tcp", server)
		if err != nil {
			os.Exit(2)
		}
		pass := func(to, from net.Conn) {
			buffer := make([]byte, 64<<10)
			for {
				size, err := from.Read(buffer)
				if err != nil {
					_ = to.Close()
					return
				}
				if number > n.lost.Load() {
					_, _ = to.Write(buffer[:size])
				}
			}
		}
		go pass(client, up)
		go pass(up, client)
	}
}

func main() {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(2)
	}
	path := &network{Listener: listener}
	go path.serve(server.Listener.Addr().String())
	trusted := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	// look tells the protocol, and how six requests end after the connection of the first was lost.
	look := func(pings time.Duration, http2, closes bool) string {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: trusted}
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
		transport.Protocols.SetHTTP2(http2)
		transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pings, PingTimeout: 50 * time.Millisecond}
		client := &http.Client{Transport: transport, Timeout: limit}
		get := func() (string, string) {
			response, err := client.Get("https://" + listener.Addr().String())
			var failure net.Error
			if errors.As(err, &failure) && failure.Timeout() {
				return "timeout", ""
			}
			if err != nil {
				return "an error", ""
			}
			defer response.Body.Close()
			_, _ = io.ReadAll(response.Body)
			return "done", response.Proto
		}
		_, protocol := get()
		path.lost.Store(path.opened.Load())
		var ends []string
		for range 6 {
			end, _ := get()
			ends = append(ends, end)
			time.Sleep(100 * time.Millisecond)
			if closes && end != "done" {
				client.CloseIdleConnections()
			}
		}
		transport.CloseIdleConnections()
		return fmt.Sprintf("%s|%s; new connections: %d", protocol, strings.Join(ends, ", "),
			path.opened.Load()-path.lost.Load())
	}
	fmt.Printf("requests with a timeout of %v, after their connection has passed nothing any more\n", limit)
	plain, old := look(0, true, false), look(0, false, false)
	pinged, closed := look(300*time.Millisecond, true, false), look(0, true, true)
	fmt.Println(strings.Replace(plain, "|", ": ", 1))
	fmt.Println(strings.Replace(old, "|", ": ", 1))
	fmt.Println(strings.Replace(pinged, "|", ", SendPingTimeout 300ms: ", 1))
	fmt.Println(strings.Replace(closed, "|", ", CloseIdleConnections 100ms later: ", 1))
	if !strings.HasPrefix(plain, "HTTP/2.0|") || strings.Contains(plain, "done") ||
		!strings.HasPrefix(old, "HTTP/1.1|timeout, done") || !strings.HasSuffix(pinged, "done; new connections: 1") ||
		!strings.HasPrefix(closed, "HTTP/2.0|timeout, done") {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go build -o finding . || exit 2
timeout 60 ./finding
