// Package testca makes certificates for tests and measurements, and folders of them that
// change as Kubernetes changes those of a Secret.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	Cert *x509.Certificate
	// PEM is its certificate.
	PEM []byte
	key *ecdsa.PrivateKey
}

var serial atomic.Int64

// Make returns an authority whose certificate is valid for a day.
func Make(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{Cert: cert, PEM: encode("CERTIFICATE", der), key: key}, nil
}

// New is Make for a test.
func New(t testing.TB, name string) *CA {
	t.Helper()
	ca, err := Make(name)
	must(t, err)
	return ca
}

// Leaf is a certificate to issue. What is not set is as a service of the suite has it:
// valid for a day, for servers and clients.
type Leaf struct {
	Names                []string // DNS names; 127.0.0.1 and ::1 are always in it
	URIs                 []string
	Subject              string
	NotBefore, NotAfter  time.Time
	Usages               []x509.ExtKeyUsage
	IsCA                 bool
	AdditionalExtensions []pkix.Extension
}

// Issue is Sign for a test.
func (ca *CA) Issue(t testing.TB, l Leaf) (cert, key []byte) {
	t.Helper()
	cert, key, err := ca.Sign(l)
	must(t, err)
	return cert, key
}

// Sign returns a certificate and its key in PEM.
func (ca *CA) Sign(l Leaf) (cert, key []byte, err error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: l.Subject},
		NotBefore: l.NotBefore, NotAfter: l.NotAfter, DNSNames: l.Names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: l.Usages,
		IsCA: l.IsCA, BasicConstraintsValid: true, ExtraExtensions: l.AdditionalExtensions,
	}
	if l.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if l.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if l.Usages == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, text := range l.URIs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, nil, err
		}
		template.URIs = append(template.URIs, u)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, &private.PublicKey, ca.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8), nil
}

// Folder is a folder of files that are replaced all at once, by a symbolic link, as those of
// a mounted Secret of Kubernetes are.
type Folder struct {
	dir      string
	versions int
}

// MakeFolder fills a folder, which must be empty, with the files of a certificate.
func MakeFolder(dir string, ca, cert, key []byte) (*Folder, error) {
	f := &Folder{dir: dir}
	return f, f.Replace(ca, cert, key)
}

// NewFolder returns a folder of the test with the files of a certificate.
func NewFolder(t testing.TB, ca, cert, key []byte) *Folder {
	t.Helper()
	f := &Folder{dir: t.TempDir()}
	f.Put(t, ca, cert, key)
	return f
}

// Cert is the path of the certificate.
func (f *Folder) Cert() string { return filepath.Join(f.dir, "tls.crt") }

// Key is the path of the private key.
func (f *Folder) Key() string { return filepath.Join(f.dir, "tls.key") }

// CA is the path of the bundle.
func (f *Folder) CA() string { return filepath.Join(f.dir, "ca.crt") }

// Put is Replace for a test.
func (f *Folder) Put(t testing.TB, ca, cert, key []byte) {
	t.Helper()
	must(t, f.Replace(ca, cert, key))
}

// Replace replaces the files.
func (f *Folder) Replace(ca, cert, key []byte) error {
	f.versions++
	version := fmt.Sprintf("..version-%d", f.versions)
	if err := os.Mkdir(filepath.Join(f.dir, version), 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"ca.crt": ca, "tls.crt": cert, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(f.dir, version, name), content, 0o600); err != nil {
			return err
		}
	}
	if err := os.Symlink(version, filepath.Join(f.dir, "..data_tmp")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(f.dir, "..data_tmp"), filepath.Join(f.dir, "..data")); err != nil {
		return err
	}
	if f.versions > 1 {
		return os.RemoveAll(filepath.Join(f.dir, fmt.Sprintf("..version-%d", f.versions-1)))
	}
	for _, name := range []string{"ca.crt", "tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(f.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
