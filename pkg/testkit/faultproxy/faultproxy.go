// Package faultproxy is a TCP proxy that breaks connections in the ways
// networks do, for tests of what a client makes of it.
//
// Promise: faults can be set and healed at any moment, for each direction by
// itself, and take effect on open connections too, with the next bytes. Latency
// delays and doesn't limit: bytes sent close together arrive close together.
//
// Limits: it knows bytes, not messages; a cut is counted from the moment when
// the fault is set, over all connections together. What the kernel has buffered
// on either side of the proxy can't be called back.
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

// Fault is what happens to the bytes of one direction. The zero value passes
// them on.
type Fault struct {
	Latency time.Duration // added to each byte's way
	// Blackhole takes the bytes and passes none on.
	Blackhole bool
	// CutAfter ends the connection once that many bytes have passed, in the
	// middle of what was sent; 0 doesn't.
	CutAfter int64
	// Reset ends connections by RST instead of FIN: those that CutAfter ends,
	// or, without it, each at the next byte.
	Reset bool
}

// Proxy passes on connections to one address. It is safe for concurrent use.
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
	fault Fault
	left  int64 // of CutAfter
}

// pair is one connection of a client and the proxy's own to the server.
type pair struct{ client, server *net.TCPConn }

func (p *pair) close(reset bool) {
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Start listens on a free port of 127.0.0.1 and passes connections on to
// target, host:port.
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

// Rewrite returns a URL like rawURL that goes through the proxy.
func (p *Proxy) Rewrite(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "faultproxy: " + p.Addr() // which no client takes for a URL
	}
	u.Host = p.Addr()
	return u.String()
}

// ToServer sets what happens to what clients send.
func (p *Proxy) ToServer(f Fault) { p.set(p.toServer, f) }

// ToClient sets what happens to what the server sends.
func (p *Proxy) ToClient(f Fault) { p.set(p.toClient, f) }

// Heal ends the faults of both directions. Connections that a blackhole has
// swallowed bytes of are reset, because their streams have a hole.
func (p *Proxy) Heal() {
	p.mu.Lock()
	holes := p.toServer.fault.Blackhole || p.toClient.fault.Blackhole
	*p.toServer, *p.toClient = direction{}, direction{}
	p.mu.Unlock()
	if holes {
		p.Disconnect()
	}
}

// Disconnect resets the connections that are open.
func (p *Proxy) Disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.close(true)
	}
}

// Close ends the proxy and its connections and waits for both.
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
	*d = direction{fault: f, left: f.CutAfter}
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

// chunk is bytes on their way, to be written not before due.
type chunk struct {
	bytes []byte
	due   time.Time
	last  verdict
}

type verdict int

const (
	goOn verdict = iota
	cut
	reset
)

// pass reads at once and writes when it is due, so that latency adds up for
// nobody.
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
			next := p.judge(d, buffer[:n])
			queue <- next
			if next.last != goOn {
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

// judge says what becomes of bytes that were just read.
func (p *Proxy) judge(d *direction, b []byte) chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := d.fault
	next := chunk{due: time.Now().Add(f.Latency)}
	switch {
	case f.Blackhole:
		return next
	case f.CutAfter > 0 && d.left <= int64(len(b)):
		b, next.last = b[:max(d.left, 0)], cut
		if f.Reset {
			next.last = reset
		}
	case f.CutAfter > 0:
		d.left -= int64(len(b))
	case f.Reset:
		b, next.last = nil, reset
	}
	if next.last == cut {
		d.left = 0
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
		if next.last != goOn {
			c.close(next.last == reset)
		}
	}
	_ = to.CloseWrite()
}
