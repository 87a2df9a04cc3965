// Package faultproxy is a TCP proxy that injects network faults, for tests of clients.
//
// Promise: faults can be set and removed at any time, for each direction, and apply
// to open connections too, from the next bytes on. Latency delays without limiting
// the throughput.
//
// Limits: it sees bytes, not messages. CutAfter counts from when the fault is set, over
// all connections. Bytes that the kernel has buffered are not affected.
//
// Source: the fault kinds are those of tc-netem(8), without loss and
// reordering, which TCP hides.
package faultproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// Fault is applied to the bytes of one direction. The zero value forwards them.
type Fault struct {
	Latency time.Duration // added to the delivery of each byte
	// Blackhole discards the bytes.
	Blackhole bool
	// CutAfter ends the connection after that many bytes, also in the middle of a
	// message; 0 means never.
	CutAfter int64
	// Reset ends connections by RST instead of FIN: after CutAfter bytes, or, when
	// that is 0, at the next byte.
	Reset bool
}

// Proxy forwards connections to one address. It is safe for concurrent use.
type Proxy struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	toServer *direction
	toClient *direction
	open     map[*pair]struct{}
}

type direction struct {
	fault     Fault
	remaining int64 // bytes until CutAfter
}

// pair is a client's connection and the proxy's connection to the server for it.
type pair struct{ client, server *net.TCPConn }

func (p *pair) close(reset bool) {
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Start listens on a free port of 127.0.0.1 and forwards connections to target,
// host:port.
func Start(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, toServer: &direction{}, toClient: &direction{},
		open: map[*pair]struct{}{}}
	p.work.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Rewrite returns rawURL with the proxy's address as its host.
func (p *Proxy) Rewrite(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "faultproxy: " + p.Addr() // which is no valid URL
	}
	u.Host = p.Addr()
	return u.String()
}

// ToServer sets the fault of the bytes that clients send.
func (p *Proxy) ToServer(f Fault) { p.set(p.toServer, f) }

// ToClient sets the fault of the bytes that the server sends.
func (p *Proxy) ToClient(f Fault) { p.set(p.toClient, f) }

// Heal removes the faults of both directions. After a Blackhole it resets all
// connections, since bytes are missing from their streams.
func (p *Proxy) Heal() {
	p.mu.Lock()
	hadBlackhole := p.toServer.fault.Blackhole || p.toClient.fault.Blackhole
	*p.toServer, *p.toClient = direction{}, direction{}
	p.mu.Unlock()
	if hadBlackhole {
		p.Disconnect()
	}
}

// Disconnect resets the open connections.
func (p *Proxy) Disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.close(true)
	}
}

// Close closes the listener and the connections and waits for their goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Disconnect()
	p.work.Wait()
}

func (p *Proxy) set(d *direction, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*d = direction{fault: f, remaining: f.CutAfter}
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	up, err := net.DialTimeout("tcp", p.target, 5*time.Second) //nolint:noctx // bounded, and Close waits for it
	if err != nil {
		_ = client.Close()
		return
	}
	c := &pair{client, up.(*net.TCPConn)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.close(true)
		return
	}
	p.open[c] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(c, c.client, c.server, p.toServer) })
	both.Go(func() { p.pass(c, c.server, c.client, p.toClient) })
	both.Wait()
	c.close(false)
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// chunk is bytes to be written at due.
type chunk struct {
	bytes []byte
	due   time.Time
	then  action
}

// action follows a chunk.
type action int

const (
	goOn action = iota
	cut
	reset
)

// pass reads chunks at once and writes each when it is due, so that latencies don't
// add up.
func (p *Proxy) pass(c *pair, from, to *net.TCPConn, d *direction) {
	queue := make(chan chunk, 1024)
	var writer sync.WaitGroup
	writer.Go(func() { write(c, to, queue) })
	defer writer.Wait()
	defer close(queue)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			next := p.apply(d, buffer[:n])
			queue <- next
			if next.then != goOn {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return // and what is queued is still written
			}
			c.close(false)
			return
		}
	}
}

// apply applies the direction's fault to bytes that were read.
func (p *Proxy) apply(d *direction, b []byte) chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := d.fault
	next := chunk{due: time.Now().Add(f.Latency)}
	switch {
	case f.Blackhole:
		return next
	case f.CutAfter > 0 && d.remaining <= int64(len(b)):
		b, next.then = b[:max(d.remaining, 0)], cut
		if f.Reset {
			next.then = reset
		}
	case f.CutAfter > 0:
		d.remaining -= int64(len(b))
	case f.Reset:
		b, next.then = nil, reset
	}
	if next.then == cut {
		d.remaining = 0
	}
	next.bytes = append([]byte(nil), b...)
	return next
}

func write(c *pair, to *net.TCPConn, queue <-chan chunk) {
	for next := range queue {
		if wait := time.Until(next.due); wait > 0 {
			<-time.After(wait)
		}
		if len(next.bytes) > 0 {
			if _, err := to.Write(next.bytes); err != nil {
				c.close(false)
				continue // drains the queue
			}
		}
		if next.then != goOn {
			c.close(next.then == reset)
		}
	}
	_ = to.CloseWrite()
}
