// Package testca makes certificates for tests, and folders of them that change as
// Kubernetes changes those of a Secret.
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

// New returns an authority whose certificate is valid for a day.
func New(t testing.TB, name string) *CA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{Cert: parse(t, der), PEM: encode("CERTIFICATE", der), key: key}
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

// Issue returns a certificate and its key in PEM.
func (ca *CA) Issue(t testing.TB, l Leaf) (cert, key []byte) {
	t.Helper()
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
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	private := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, &private.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
}

// Folder is a folder of files that are replaced all at once, by a symbolic link, as those of
// a mounted Secret of Kubernetes are.
type Folder struct {
	dir      string
	versions int
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

// Put replaces the files.
func (f *Folder) Put(t testing.TB, ca, cert, key []byte) {
	t.Helper()
	f.versions++
	version := fmt.Sprintf("..version-%d", f.versions)
	must(t, os.Mkdir(filepath.Join(f.dir, version), 0o700))
	for name, content := range map[string][]byte{"ca.crt": ca, "tls.crt": cert, "tls.key": key} {
		must(t, os.WriteFile(filepath.Join(f.dir, version, name), content, 0o600))
	}
	must(t, os.Symlink(version, filepath.Join(f.dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(f.dir, "..data_tmp"), filepath.Join(f.dir, "..data")))
	if f.versions > 1 {
		must(t, os.RemoveAll(filepath.Join(f.dir, fmt.Sprintf("..version-%d", f.versions-1))))
		return
	}
	for _, name := range []string{"ca.crt", "tls.crt", "tls.key"} {
		must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(f.dir, name)))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
