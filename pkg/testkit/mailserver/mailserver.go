// Package mailserver is a real SMTP server that keeps the last mails it was
// given and sends none on, for tests and for development.
//
// Limits: one process; it listens on 127.0.0.1 without TLS; what it keeps is
// gone with it.
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
	keep     = 100
	mostSize = 1 << 20
	patience = 30 * time.Second
)

// ErrPortBusy says that something else listens on the port.
var ErrPortBusy = errors.New("mailserver: the port is in use")

// Options of a server. The zero value listens on a free port.
type Options struct {
	Port int
	// Received is called with each mail, from many goroutines.
	Received func(Mail)
	// Refuse answers a recipient with an SMTP code such as 451 or 550; 0 takes
	// the mail. It may be called from many goroutines.
	Refuse func(to string) int
}

// Mail as it arrived.
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

// Start listens. ErrPortBusy when it can't on the port asked for.
func Start(ctx context.Context, o Options) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPortBusy, err)
	}
	s := &Server{o: o, listen: l, done: make(chan struct{}), arrived: make(chan struct{})}
	s.smtp = smtp.NewServer(smtp.BackendFunc(
		func(*smtp.Conn) (smtp.Session, error) { return &envelope{server: s}, nil }))
	s.smtp.Domain, s.smtp.MaxMessageBytes, s.smtp.MaxRecipients = "localhost", mostSize, 10
	s.smtp.ReadTimeout, s.smtp.WriteTimeout = patience, patience
	go func() {
		defer close(s.done)
		_ = s.smtp.Serve(l) // ends with Close
	}()
	return s, nil
}

// Addr is where it listens, host:port.
func (s *Server) Addr() string { return s.listen.Addr().String() }

// Close stops listening and cuts what is open.
func (s *Server) Close() error {
	err := s.smtp.Close()
	<-s.done
	if errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Mails returns what came for an address, oldest first.
func (s *Server) Mails(to string) []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to(to)
}

func (s *Server) to(to string) []Mail {
	return slices.DeleteFunc(slices.Clone(s.mails), func(m Mail) bool { return m.To != to })
}

// Wait returns the newest mail to an address that meets a condition, when there
// is one, waiting for it until ctx ends.
func (s *Server) Wait(ctx context.Context, to string, meets func(Mail) bool) (Mail, error) {
	for {
		s.mu.Lock()
		found, arrived := s.to(to), s.arrived
		s.mu.Unlock()
		for _, m := range slices.Backward(found) {
			if meets(m) {
				return m, nil
			}
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Mail{}, fmt.Errorf("no such mail to %s: %w", to, ctx.Err())
		}
	}
}

func (s *Server) receive(m Mail) {
	s.mu.Lock()
	s.mails = append(s.mails, m)
	s.mails = s.mails[max(0, len(s.mails)-keep):]
	close(s.arrived)
	s.arrived = make(chan struct{})
	s.mu.Unlock()
	if s.o.Received != nil {
		s.o.Received(m)
	}
}

// envelope is one connection's mail under way.
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
