// Package mailserver is an SMTP server that keeps the last mails it received
// in memory and forwards none, for tests and for development.
//
// Limits: it listens on 127.0.0.1 without TLS, keeps the last 100 mails of at
// most 1 MiB each, and loses them when it is closed.
//
// Source: RFC 5321 as github.com/emersion/go-smtp implements it.
package mailserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	maxMails     = 100
	maxMailBytes = 1 << 20
	ioTimeout    = 30 * time.Second // of one read or write
)

// ErrPortBusy says that another program listens on the port.
var ErrPortBusy = errors.New("mailserver: the port is in use")

// Options of a server. The zero value listens on a free port.
type Options struct {
	Port int
	// Received is called with each mail, from many goroutines.
	Received func(Mail)
	// Refuse returns the SMTP code that rejects a recipient, such as 451 or
	// 550, or 0 to accept it. It may be called from many goroutines.
	Refuse func(to string) int
}

// Mail is a received mail.
type Mail struct {
	From, To string // of the envelope
	Header   mail.Header
	Subject  string // decoded
	Body     string // decoded, lines ended by \n
	At       time.Time
}

// Server is a running server. It is safe for concurrent use.
type Server struct {
	o      Options
	smtp   *smtp.Server
	listen net.Listener
	done   chan struct{}

	mu      sync.Mutex
	mails   []Mail
	arrived chan struct{} // closed and replaced with each mail
}

// Start listens on 127.0.0.1. The error is [ErrPortBusy] when it can't on
// o.Port.
func Start(ctx context.Context, o Options) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPortBusy, err)
	}
	s := &Server{o: o, listen: l, done: make(chan struct{}), arrived: make(chan struct{})}
	s.smtp = smtp.NewServer(smtp.BackendFunc(
		func(*smtp.Conn) (smtp.Session, error) { return &envelope{server: s}, nil }))
	s.smtp.Domain, s.smtp.MaxMessageBytes, s.smtp.MaxRecipients = "localhost", maxMailBytes, 10
	s.smtp.ReadTimeout, s.smtp.WriteTimeout = ioTimeout, ioTimeout
	go func() {
		defer close(s.done)
		_ = s.smtp.Serve(l) // ends with Close
	}()
	return s, nil
}

// Addr returns the address that the server listens on, as host:port.
func (s *Server) Addr() string { return s.listen.Addr().String() }

// Close stops listening and closes open connections.
func (s *Server) Close() error {
	err := s.smtp.Close()
	<-s.done
	if errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Mails returns the mails to an address, oldest first.
func (s *Server) Mails(to string) []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to(to)
}

func (s *Server) to(to string) []Mail {
	return slices.DeleteFunc(slices.Clone(s.mails), func(m Mail) bool { return m.To != to })
}

// Wait returns the newest mail to an address for which matches returns true. It
// waits for one until ctx ends.
func (s *Server) Wait(ctx context.Context, to string, matches func(Mail) bool) (Mail, error) {
	for {
		s.mu.Lock()
		found, arrived := s.to(to), s.arrived
		s.mu.Unlock()
		for _, m := range slices.Backward(found) {
			if matches(m) {
				return m, nil
			}
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Mail{}, fmt.Errorf("mailserver: no such mail to %s: %w", to, ctx.Err())
		}
	}
}

func (s *Server) receive(m Mail) {
	s.mu.Lock()
	s.mails = append(s.mails, m)
	s.mails = s.mails[max(0, len(s.mails)-maxMails):]
	close(s.arrived)
	s.arrived = make(chan struct{})
	s.mu.Unlock()
	if s.o.Received != nil {
		s.o.Received(m)
	}
}

// envelope is the mail that one connection is sending.
type envelope struct {
	server *Server
	from   string
	to     []string
}

// Mail implements smtp.Session.
func (e *envelope) Mail(from string, _ *smtp.MailOptions) error {
	e.from = from
	return nil
}

// Rcpt implements smtp.Session.
func (e *envelope) Rcpt(to string, _ *smtp.RcptOptions) error {
	if refuse := e.server.o.Refuse; refuse != nil {
		if code := refuse(to); code != 0 {
			return &smtp.SMTPError{Code: code, Message: "refused " + to}
		}
	}
	e.to = append(e.to, to)
	return nil
}

// Data implements smtp.Session.
func (e *envelope) Data(r io.Reader) error {
	parsed, err := mail.ReadMessage(r)
	if err != nil {
		return fmt.Errorf("mailserver: %w", err)
	}
	body := parsed.Body
	if strings.EqualFold(parsed.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("mailserver: %w", err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	if err != nil {
		return fmt.Errorf("mailserver: %w", err)
	}
	for _, to := range e.to {
		e.server.receive(Mail{
			From: e.from, To: to, Header: parsed.Header, Subject: subject,
			Body: strings.ReplaceAll(string(text), "\r\n", "\n"), At: time.Now(),
		})
	}
	return nil
}

// Reset implements smtp.Session.
func (e *envelope) Reset() { e.from, e.to = "", nil }

// Logout implements smtp.Session.
func (e *envelope) Logout() error { return nil }
