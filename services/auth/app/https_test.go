package app_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/testca"
	"github.com/purserhq/purser/services/auth/app"
)

func TestTheHTTPPortServesTLSWithTheCertificateOfTheMoment(t *testing.T) {
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{Subject: "first"})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	s := start(t, "PURSER_HTTP_TLS_CERT="+folder.Cert(), "PURSER_HTTP_TLS_KEY="+folder.Key())
	url := strings.Replace(s.http, "http://", "https://", 1) + "/.well-known/jwks.json"
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	// get asks over a connection of its own, of at most a version, and returns whose certificate was shown.
	get := func(version uint16) (subject string, err error) {
		transport := &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: version}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("answered %s", resp.Status)
		}
		return resp.TLS.PeerCertificates[0].Subject.CommonName, nil
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if subject, err := get(version); err != nil || subject != "first" {
			t.Errorf("%s: %q, %v", tls.VersionName(version), subject, err)
		}
	}
	if _, err := get(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	cert, key = ca.Issue(t, testca.Leaf{Subject: "second"})
	folder.Put(t, ca.PEM, cert, key)
	testkit.Eventually(t, time.Minute, func() bool {
		subject, err := get(tls.VersionTLS13)
		if err != nil {
			t.Fatal(err)
		}
		return subject == "second"
	})
}

func TestFilesOfTheHTTPPortAreChecked(t *testing.T) {
	_, err := app.Load(append(environ("postgres://auth@db.example/auth"), "PURSER_HTTP_TLS_CERT=/absent"))
	if err == nil || !strings.Contains(err.Error(), "PURSER_HTTP_TLS_KEY must be set together") {
		t.Errorf("a certificate alone: %v", err)
	}
	cfg, err := app.Load(append(environ("postgres://auth@db.example/auth"),
		"PURSER_HTTP_TLS_CERT=/absent", "PURSER_HTTP_TLS_KEY=/absent"))
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.CheckForServe(); err == nil || !strings.Contains(err.Error(), "PURSER_HTTP_TLS_CERT") {
		t.Errorf("files that are absent: %v", err)
	}
}
