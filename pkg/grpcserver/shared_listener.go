package grpcserver

import (
	"errors"
	"net"
	"sync"
	"time"
)

// handshakeGrace is how long the handshake of a connection may go on once its server
// ends. gRPC asks nobody to connect again before the last handshake has ended, so one
// peer that opens a connection and says nothing would keep all others.
const handshakeGrace = time.Second

// sharedListener gives the connections of one listener to several servers. It is
// closed with the last of theirs.
type sharedListener struct {
	lis      net.Listener
	accepted chan accepted
	closed   chan struct{}
	ended    chan struct{} // closed when accept has returned
	err      error         // why, once ended is closed

	mu   sync.Mutex
	open int // listeners of servers
}

type accepted struct {
	conn net.Conn
	err  error
}

// share shares lis, and returns the first server's part.
func share(lis net.Listener) (*sharedListener, *oneListener) {
	s := &sharedListener{lis: lis, accepted: make(chan accepted), closed: make(chan struct{}),
		ended: make(chan struct{}), open: 1}
	go s.accept()
	return s, newListener(s)
}

// accept accepts until an error that doesn't pass, which all servers get.
func (s *sharedListener) accept() {
	defer close(s.ended)
	for {
		conn, err := s.lis.Accept()
		if err != nil && !passes(err) {
			s.err = err
			return
		}
		s.give(accepted{conn, err}) // gRPC accepts again after an error that may pass
	}
}

// passes reports whether gRPC accepts again after an error, such as one about too many
// open files.
func passes(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// give gives what was accepted to one of the servers.
func (s *sharedListener) give(a accepted) {
	select {
	case s.accepted <- a:
	case <-s.closed:
		if a.err == nil {
			_ = a.conn.Close()
		}
	}
}

// listener returns a listener for one more server, and false if all of them have ended.
func (s *sharedListener) listener() (*oneListener, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == 0 {
		return nil, false
	}
	s.open++
	return newListener(s), true
}

// oneListener is one server's part of a sharedListener.
type oneListener struct {
	shared *sharedListener
	once   sync.Once
	closed chan struct{}
	left   chan struct{} // closed when it takes no more connections

	mu         sync.Mutex
	until      time.Time // when handshakes have to end; zero while it takes connections
	handshakes map[*beginning]struct{}
	none       sync.Cond // no handshakes are left; with mu
}

func newListener(s *sharedListener) *oneListener {
	l := &oneListener{shared: s, closed: make(chan struct{}), left: make(chan struct{}),
		handshakes: map[*beginning]struct{}{}}
	l.none.L = &l.mu
	return l
}

// Accept implements net.Listener.
func (l *oneListener) Accept() (net.Conn, error) {
	for {
		select {
		case a := <-l.shared.accepted:
			if a.err != nil {
				return nil, a.err
			}
			if c, ok := l.begin(a.conn); ok {
				return c, nil
			}
			go l.shared.give(a)
		case <-l.left:
			select {
			case <-l.closed:
				return nil, net.ErrClosed
			case <-l.shared.ended:
				return nil, l.shared.err
			}
		case <-l.shared.ended:
			return nil, l.shared.err
		}
	}
}

// begin notes a connection whose handshake begins, unless the server ends.
func (l *oneListener) begin(conn net.Conn) (net.Conn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.until.IsZero() {
		return nil, false
	}
	c := &beginning{Conn: conn, lis: l}
	l.handshakes[c] = struct{}{}
	return c, true
}

// leave leaves new connections to the other servers, and waits until the handshakes of
// its own have ended: gRPC closes a connection that it gets at the moment of its end.
func (l *oneListener) leave() {
	l.hurry()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.handshakes) > 0 {
		l.none.Wait()
	}
}

// hurry takes no more connections, and has the handshakes end soon.
func (l *oneListener) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.until.IsZero() {
		return
	}
	l.until = time.Now().Add(handshakeGrace)
	close(l.left)
	for c := range l.handshakes {
		_ = c.Conn.SetDeadline(l.until)
	}
}

// Close implements net.Listener. That of the last server refuses connections from
// then on.
func (l *oneListener) Close() (err error) {
	l.once.Do(func() {
		l.hurry()
		close(l.closed)
		s := l.shared
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open--; s.open == 0 {
			close(s.closed)
			err = s.lis.Close()
			<-s.ended
		}
	})
	return err
}

// Addr implements net.Listener.
func (l *oneListener) Addr() net.Addr { return l.shared.lis.Addr() }

// beginning is a connection of a server. gRPC sets its deadline for the handshake, and
// none when that has ended.
type beginning struct {
	net.Conn
	lis *oneListener
}

// SetDeadline implements net.Conn.
func (c *beginning) SetDeadline(t time.Time) error {
	l := c.lis
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.IsZero() {
		c.end()
	} else if _, ok := l.handshakes[c]; ok && !l.until.IsZero() && t.After(l.until) {
		t = l.until
	}
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *beginning) Close() error {
	c.lis.mu.Lock()
	c.end()
	c.lis.mu.Unlock()
	return c.Conn.Close()
}

// end notes that the handshake has ended. lis.mu must be held.
func (c *beginning) end() {
	if delete(c.lis.handshakes, c); len(c.lis.handshakes) == 0 {
		c.lis.none.Broadcast()
	}
}
