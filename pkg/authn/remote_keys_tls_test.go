package authn_test

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/testca"
)

// The bundle is read again for a new connection: a server with a certificate of the next
// authority is asked as soon as the bundle has it.
func TestTheKeySetIsReadWithTheAuthoritiesOfABundle(t *testing.T) {
	first, second := testca.New(t, "first"), testca.New(t, "second")
	cert, key := second.Issue(t, testca.Leaf{})
	folder := testca.NewFolder(t, first.PEM, cert, key)
	pair, err := tls.LoadX509KeyPair(folder.Cert(), folder.Key())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	cfg := authn.Config{Issuer: "https://issuer.example", JWKSURL: "https://127.0.0.1:" + port,
		JWKSCAFile: folder.CA()}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	transport, err := cfg.Transport(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: transport}
	t.Cleanup(client.CloseIdleConnections)
	get := func() error {
		resp, err := client.Get(cfg.KeySetURL())
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Fatalf("with the first authority alone: %v", err)
	}
	folder.Put(t, append(first.PEM, second.PEM...), cert, key)
	testkit.Eventually(t, time.Minute, func() bool { return get() == nil })
}

func TestABundleForTheKeySetIsChecked(t *testing.T) {
	folder := testca.NewFolder(t, []byte("none"), nil, nil)
	for name, tt := range map[string]struct {
		cfg  authn.Config
		want string
	}{
		"no certificate": {authn.Config{Issuer: "https://issuer.example",
			JWKSCAFile: folder.CA()}, "no certificate in it"},
		"no file": {authn.Config{Issuer: "https://issuer.example",
			JWKSCAFile: filepath.Join(t.TempDir(), "absent")}, "no such file"},
	} {
		err := tt.cfg.Check()
		if err == nil || !strings.Contains(err.Error(), tt.want) ||
			!strings.Contains(err.Error(), "PURSER_JWKS_TLS_CA") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := tt.cfg.RemoteKeys(slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: keys are read", name)
		}
	}
	cfg := authn.Config{Issuer: "https://issuer.example", JWKSURL: "http://auth/jwks", JWKSCAFile: folder.CA()}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "is not https") {
		t.Errorf("a bundle for an http URL: %v", err)
	}
}
