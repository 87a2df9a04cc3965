package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Pair is a certificate with its private key.
type Pair struct{ files *watched[*tls.Certificate] }

// LoadPair reads a certificate, followed by those of intermediate authorities, and its key,
// both in PEM. The error says what can't be used: a file that can't be read, a key of
// another certificate, a certificate that has expired.
func LoadPair(certFile, keyFile string, log *slog.Logger) (*Pair, error) {
	return loadPair(certFile, keyFile, log, time.Now)
}

func loadPair(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*Pair, error) {
	w, err := watch([]string{certFile, keyFile}, log, now, parsePair,
		func(c *tls.Certificate) time.Time { return c.Leaf.NotAfter })
	if err != nil {
		return nil, err
	}
	return &Pair{w}, nil
}

// Certificate returns the certificate for a handshake now.
func (p *Pair) Certificate() *tls.Certificate { return p.files.get() }

func parsePair(contents [][]byte, now time.Time) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, err
	}
	if now.After(cert.Leaf.NotAfter) {
		return nil, fmt.Errorf("the certificate has expired at %s", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &cert, nil
}

// Roots are the certificate authorities of a bundle.
type Roots struct{ files *watched[*x509.CertPool] }

// LoadRoots reads a bundle of authorities in PEM. All of them are trusted, so that an
// authority is replaced by a bundle with the old and the new one.
func LoadRoots(file string, log *slog.Logger) (*Roots, error) { return loadRoots(file, log, time.Now) }

func loadRoots(file string, log *slog.Logger, now func() time.Time) (*Roots, error) {
	w, err := watch([]string{file}, log, now, parseRoots, nil)
	if err != nil {
		return nil, err
	}
	return &Roots{w}, nil
}

// Pool returns the authorities for a handshake now. It is the same pool until the file
// changes.
func (r *Roots) Pool() *x509.CertPool { return r.files.get() }

// parseRoots takes every certificate of a bundle, and none of a bundle with one that can't
// be read: x509.CertPool.AppendCertsFromPEM leaves those out without a word.
func parseRoots(contents [][]byte, _ time.Time) (*x509.CertPool, error) {
	pool, found, blocks := x509.NewCertPool(), 0, 0
	for rest := contents[0]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks++
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle: %w", found+1, err)
		}
		pool.AddCert(cert)
		found++
	}
	if begun := bytes.Count(contents[0], []byte("-----BEGIN ")); begun != blocks {
		return nil, fmt.Errorf("%d of its %d blocks can't be read", begun-blocks, begun)
	}
	if found == 0 {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}
