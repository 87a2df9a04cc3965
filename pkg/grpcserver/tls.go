package grpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/purserhq/purser/pkg/tlsfiles"
)

// validateTLS returns all that is wrong with the settings of TLS, without a look at the files.
func (c Config) validateTLS() error {
	var invalid []error
	switch {
	case c.Plaintext && (c.TLSCert != "" || c.TLSKey != ""):
		invalid = append(invalid, errors.New(
			"PURSER_GRPC_PLAINTEXT and PURSER_GRPC_TLS_CERT are both set; choose one"))
	case !c.Plaintext && (c.TLSCert == "" || c.TLSKey == ""):
		invalid = append(invalid, errors.New(
			"PURSER_GRPC_TLS_CERT and PURSER_GRPC_TLS_KEY are needed (or PURSER_GRPC_PLAINTEXT=true, by name)"))
	}
	if c.Plaintext && (c.TLSClientCA != "" || len(c.TLSClientIDs) > 0) {
		invalid = append(invalid, errors.New("PURSER_GRPC_PLAINTEXT is set: PURSER_GRPC_TLS_CLIENT_CA and "+
			"PURSER_GRPC_TLS_CLIENT_IDS need TLS"))
	}
	if (c.TLSClientCA == "") != (len(c.TLSClientIDs) == 0) {
		invalid = append(invalid, errors.New("PURSER_GRPC_TLS_CLIENT_CA and PURSER_GRPC_TLS_CLIENT_IDS must be set "+
			"together: the authorities of clients, and which of their clients may connect"))
	}
	if _, err := tlsfiles.ParseIDs(c.TLSClientIDs); err != nil {
		invalid = append(invalid, fmt.Errorf("PURSER_GRPC_TLS_CLIENT_IDS: %w", err))
	}
	return errors.Join(invalid...)
}

// checkFiles returns all that is wrong with the files of TLS.
func (c Config) checkFiles() error {
	var invalid []error
	silent := slog.New(slog.DiscardHandler)
	if c.TLSCert != "" && c.TLSKey != "" { // else Validate reports it where TLS is needed
		if _, err := tlsfiles.LoadPair(c.TLSCert, c.TLSKey, silent); err != nil {
			invalid = append(invalid, certificateError(err))
		}
	}
	if c.TLSClientCA != "" {
		if _, err := tlsfiles.LoadRoots(c.TLSClientCA, silent); err != nil {
			invalid = append(invalid, clientCAError(err))
		}
	}
	return errors.Join(invalid...)
}

func certificateError(err error) error {
	return fmt.Errorf("TLS certificate (PURSER_GRPC_TLS_CERT, PURSER_GRPC_TLS_KEY): %w", err)
}

func clientCAError(err error) error { return fmt.Errorf("PURSER_GRPC_TLS_CLIENT_CA: %w", err) }

// transport returns the credentials of the server's own port.
func transport(c Config, log *slog.Logger) (credentials.TransportCredentials, error) {
	if c.Plaintext {
		return insecure.NewCredentials(), nil
	}
	server := tlsfiles.Server{MinVersion: tls.VersionTLS13}
	var err error
	if server.Pair, err = tlsfiles.LoadPair(c.TLSCert, c.TLSKey, log); err != nil {
		return nil, certificateError(err)
	}
	if c.TLSClientCA == "" {
		return credentials.NewTLS(server.Config()), nil
	}
	if server.Clients, err = tlsfiles.LoadRoots(c.TLSClientCA, log); err != nil {
		return nil, clientCAError(err)
	}
	if server.IDs, err = tlsfiles.ParseIDs(c.TLSClientIDs); err != nil {
		return nil, fmt.Errorf("PURSER_GRPC_TLS_CLIENT_IDS: %w", err)
	}
	return mutual{credentials.NewTLS(server.Config()), newRefusals(log)}, nil
}

// mutual is TLS with certificates of clients, which says whom it refuses and why.
type mutual struct {
	credentials.TransportCredentials
	refusals *refusals
}

// ServerHandshake implements credentials.TransportCredentials.
func (m mutual) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	kept := &keptOpen{Conn: raw}
	conn, info, err := m.TransportCredentials.ServerHandshake(kept)
	if err == nil {
		kept.done = true
		return conn, info, nil
	}
	if refused := tlsfiles.RefusedClient(err); refused != nil {
		m.refusals.note(raw.RemoteAddr(), refused)
		kept.waitForPeer()
	}
	return nil, nil, err // gRPC closes the connection
}

// answerGrace is how long a refused client has to read that it is refused.
const answerGrace = time.Second

// keptOpen is a connection that a handshake which fails doesn't close. The client has sent its
// first frames by then: closed with these unread, the system resets the connection, and the
// alert that says why may not be read.
type keptOpen struct {
	net.Conn
	done bool // the handshake was good
}

// Close implements net.Conn.
func (c *keptOpen) Close() error {
	if !c.done {
		return nil
	}
	return c.Conn.Close()
}

// waitForPeer reads until the client closes the connection.
func (c *keptOpen) waitForPeer() {
	_ = c.SetDeadline(time.Now().Add(answerGrace))
	_, _ = io.Copy(io.Discard, c.Conn)
}

// Clone implements credentials.TransportCredentials.
func (m mutual) Clone() credentials.TransportCredentials {
	return mutual{m.TransportCredentials.Clone(), m.refusals}
}

const (
	// refusalLines are logged of each reason at once, and then one per refusalPause.
	refusalLines = 10
	refusalPause = 10 * time.Second
	// maxReason bounds the text of a line, in characters: names in certificates can be long.
	maxReason = 1000
)

// refusals counts the connections that were refused for the client's certificate, and logs
// some of each reason.
type refusals struct {
	log     *slog.Logger
	counter metric.Int64Counter

	mu      sync.Mutex
	reasons map[string]*refusalLog
}

type refusalLog struct {
	allow *rate.Limiter
	label metric.MeasurementOption
	// unlogged are those since the last line.
	unlogged int
}

func newRefusals(log *slog.Logger) *refusals {
	r := &refusals{log: log, reasons: map[string]*refusalLog{}}
	// An instrument that can't be made is a no-op one.
	r.counter, _ = otel.Meter("github.com/purserhq/purser/pkg/grpcserver").Int64Counter("tls_clients_refused_total",
		metric.WithDescription("Connections refused for the client's certificate, or for want of one."))
	for _, reason := range tlsfiles.Reasons() {
		l := &refusalLog{allow: rate.NewLimiter(rate.Every(refusalPause), refusalLines),
			label: metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", reason)))}
		r.reasons[reason] = l
		r.counter.Add(context.Background(), 0, l.label)
	}
	return r
}

func (r *refusals) note(peer net.Addr, refused *tlsfiles.RefusedError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.reasons[refused.Reason]
	r.counter.Add(context.Background(), 1, l.label)
	if !l.allow.Allow() {
		l.unlogged++
		return
	}
	r.log.Warn("client refused by its certificate", "peer", peer.String(), "reason", refused.Reason,
		"presented", refused.Presented, "error", fmt.Sprintf("%.*s", maxReason, refused), "not_logged", l.unlogged)
	l.unlogged = 0
}
