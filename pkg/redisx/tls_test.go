package redisx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// authority makes files: a certificate of a private authority, and one for
// 127.0.0.1 that it has signed, with its key.
func authority(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issue := func(c, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = own
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &own.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, own
	}
	now := time.Now()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a private authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	rootDER, rootKey := issue(root, root, nil)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, leafKey := issue(leaf, root, rootKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("ca.pem", "CERTIFICATE", rootDER), write("cert.pem", "CERTIFICATE", leafDER),
		write("key.pem", "PRIVATE KEY", pkcs8)
}

// secured is the URL of a server at a port with TLS, whose certificate ca has signed.
func secured(s *redisserver.Server, port int, ca string) string {
	return fmt.Sprintf("rediss://:%s@127.0.0.1:%d/0?ca_file=%s", s.Password(), port, url.QueryEscape(ca))
}

func TestAServerOfAPrivateAuthorityIsReachedByItsFile(t *testing.T) {
	ca, cert, key := authority(t)
	port := freePort(t)
	s, err := redisserver.Start(t.Context(), redisserver.Options{Settings: map[string]string{
		"tls-port": fmt.Sprint(port), "tls-cert-file": cert, "tls-key-file": key, "tls-auth-clients": "no"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(t.Context()) }()
	c := open(t, redisx.Options{URL: secured(s, port, ca)})
	testkit.Eventually(t, time.Minute, func() bool { _, err := get(t, c); return err == nil })

	other, _, _ := authority(t)
	for what, url := range map[string]string{
		"another authority's file": secured(s, port, other),
		"the system's authorities": strings.Split(secured(s, port, ca), "?")[0],
	} {
		wrong := open(t, redisx.Options{URL: url, Timeout: 5 * time.Second})
		if err := wrong.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with %s: %v", what, err)
		}
	}
	for what, file := range map[string]string{"no such file": "/none/ca.pem", "has no certificate in PEM": key} {
		url := secured(s, port, file)
		if redisx.CheckURL(url) != nil {
			t.Errorf("%s: CheckURL reads files", what)
		}
		_, err := redisx.New(redisx.Options{URL: url})
		for _, err := range []error{err, redisx.CheckFiles(url)} {
			if err == nil || !strings.Contains(err.Error(), "ca_file") || !strings.Contains(err.Error(), what) ||
				strings.Contains(err.Error(), s.Password()) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A handshake of TLS across zones, or on a busy node, takes longer than a command may.
func TestAHandshakeMayTakeLongerThanACommand(t *testing.T) {
	ca, cert, key := authority(t)
	s := testkit.Redis(t)
	port := slowHandshakes(t, cert, key, s.Port(), 4*redisx.Budget)
	c := open(t, redisx.Options{URL: secured(s, port, ca)})
	begin := time.Now()
	if took, err := get(t, c); err == nil || took > time.Second {
		t.Errorf("a command waited %s for a handshake: %v", took, err)
	}
	testkit.Eventually(t, time.Minute, func() bool { _, err := get(t, c); return err == nil })
	testkit.Figure(t, "with handshakes of %s the first answer came after %s", 4*redisx.Budget, time.Since(begin))
	t.Run("control: with a command's time it never connects", func(t *testing.T) {
		hasty := open(t, redisx.Options{URL: secured(s, port, ca), DialTimeout: redisx.Budget})
		for end := time.Now().Add(12 * redisx.Budget); time.Now().Before(end); {
			if _, err := get(t, hasty); err == nil {
				t.Fatal("it has connected")
			}
		}
	})
}

// slowHandshakes is the port of a proxy with TLS in front of a server, whose
// handshakes take this long.
func slowHandshakes(t *testing.T, cert, key string, server int, takes time.Duration) int {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				<-time.After(takes)
				to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server))
				if err != nil {
					_ = conn.Close()
					return
				}
				client := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair},
					MinVersion: tls.VersionTLS12})
				go func() {
					defer to.Close()
					_, _ = io.Copy(to, client)
				}()
				defer client.Close()
				_, _ = io.Copy(client, to)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
