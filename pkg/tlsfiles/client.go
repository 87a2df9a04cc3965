package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/purserhq/purser/pkg/httpx"
)

// Client is what a client's side of TLS needs.
type Client struct {
	// Roots are the authorities of the server; nil for the system's.
	Roots *Roots
	// Pair, if set, is the certificate that the client shows when it is asked.
	Pair *Pair
	// ServerID, if set, is the SPIFFE id that the server must have, in place of the host's name.
	ServerID string
}

// LoadClient reads the files of a client, each of which may be empty.
func LoadClient(ca, cert, key, serverID string, log *slog.Logger) (Client, error) {
	c := Client{ServerID: serverID}
	var err error
	if ca != "" {
		if c.Roots, err = LoadRoots(ca, log); err != nil {
			return c, fmt.Errorf("roots: %w", err)
		}
	}
	if cert != "" || key != "" {
		if c.Pair, err = LoadPair(cert, key, log); err != nil {
			return c, fmt.Errorf("certificate: %w", err)
		}
	}
	return c, nil
}

// Config returns the configuration for one handshake now, of TLS 1.3.
func (c Client) Config() *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.Roots != nil {
		cfg.RootCAs = c.Roots.Pool()
	}
	if c.Pair != nil {
		// Unlike Certificates it is also shown to a server that names other authorities, which
		// then says what it doesn't trust.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.Pair.Certificate(), nil
		}
	}
	if c.ServerID != "" {
		roots := cfg.RootCAs
		cfg.InsecureSkipVerify = true // of the name; VerifyConnection verifies all else
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyServer(state.PeerCertificates, roots, c.ServerID)
		}
	}
	return cfg
}

func verifyServer(chain []*x509.Certificate, roots *x509.CertPool, want string) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return err
	}
	id, err := IDOf(chain[0])
	if err != nil {
		return fmt.Errorf("the server is not %s: %w", want, err)
	}
	if id != want {
		return fmt.Errorf("the server is %s, not %s", id, want)
	}
	return nil
}

// Transport is an http.RoundTripper that trusts the authorities of a bundle.
type Transport struct {
	roots *Roots

	mu    sync.Mutex
	pool  *x509.CertPool
	inner *http.Transport
}

// NewTransport returns a copy of the default transport with roots in place of the system's.
func NewTransport(roots *Roots) *Transport { return &Transport{roots: roots} }

// RoundTrip implements http.RoundTripper. After a change of the bundle it opens new
// connections.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.current().RoundTrip(r)
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inner != nil {
		t.inner.CloseIdleConnections()
	}
}

func (t *Transport) current() *http.Transport {
	pool := t.roots.Pool()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inner != nil && t.pool == pool {
		return t.inner
	}
	if t.inner != nil {
		t.inner.CloseIdleConnections()
	}
	t.inner, t.pool = httpx.Default(), pool
	t.inner.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return t.inner
}

// Shown describes the certificate that the client shows now, for errors.
func (c Client) Shown() string {
	if c.Pair == nil {
		return "the client, which has no certificate"
	}
	return "the client's certificate (" + names(c.Pair.Certificate().Leaf) + ")"
}
