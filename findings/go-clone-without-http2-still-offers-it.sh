#!/usr/bin/env bash
# Software:  net/http of Go 1.26, the client
# Expected:  a clone of http.DefaultTransport whose Protocols is set to HTTP/1.1 only speaks HTTP/1.1 to every server,
#            as a new http.Transport with the same Protocols does. TLSNextProto, set to an empty map, is the older way.
# Observed:  it still offers HTTP/2 while it sets up TLS. A server that has HTTP/2 chooses it, and each request fails:
#            the client sends HTTP/1.1 and reads frames. With a server that has none it works.
# Cause:     Clone sets up the original, which adds h2 to NextProtos of its TLSClientConfig, and copies that. What is
#            set on the clone afterwards takes the reader of HTTP/2 away and leaves the offer.
# Care:      tests against httptest.NewServer or NewTLSServer, which have no HTTP/2, pass. Begin with a new
#            http.Transport, or set TLSClientConfig to a new one too; RootCAs that is set on the clone's keeps the
#            offer.
# Output:    a new transport, Protocols HTTP/1.1: HTTP/1.1
#            a clone as it is: HTTP/2.0
#            a clone, Protocols HTTP/1.1: an error
#            a clone, empty TLSNextProto: an error
#            a clone, Protocols HTTP/1.1 and a new TLSClientConfig: HTTP/1.1
#            a clone, Protocols HTTP/1.1, to a server without HTTP/2: HTTP/1.1
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25
MOD
cat > main.go <<'GO'
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"
)

func serve(http2 bool) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.EnableHTTP2 = http2
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	return s
}

func get(t *http.Transport, s *httptest.Server, trusted *x509.CertPool) string {
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.RootCAs = trusted
	defer t.CloseIdleConnections()
	response, err := (&http.Client{Transport: t, Timeout: 5 * time.Second}).Get(s.URL)
	if err != nil {
		return "an error"
	}
	_ = response.Body.Close()
	return response.Proto
}

func clone() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

func main() {
	log.SetOutput(io.Discard)
	both, old := serve(true), serve(false)
	trusted := x509.NewCertPool()
	trusted.AddCert(both.Certificate())
	trusted.AddCert(old.Certificate())
	only := new(http.Protocols)
	only.SetHTTP1(true)
	limited, without, fresh := clone(), clone(), clone()
	limited.Protocols = only
	without.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	fresh.Protocols, fresh.TLSClientConfig = only, &tls.Config{}
	same := true
	for _, c := range []struct {
		name      string
		transport *http.Transport
		server    *httptest.Server
		want      string
	}{
		{"a new transport, Protocols HTTP/1.1", &http.Transport{Protocols: only}, both, "HTTP/1.1"},
		{"a clone as it is", clone(), both, "HTTP/2.0"},
		{"a clone, Protocols HTTP/1.1", limited, both, "an error"},
		{"a clone, empty TLSNextProto", without, both, "an error"},
		{"a clone, Protocols HTTP/1.1 and a new TLSClientConfig", fresh, both, "HTTP/1.1"},
		{"a clone, Protocols HTTP/1.1, to a server without HTTP/2", limited, old, "HTTP/1.1"},
	} {
		got := get(c.transport, c.server, trusted)
		fmt.Printf("%s: %s\n", c.name, got)
		same = same && got == c.want
	}
	if !same {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go build -o finding . || exit 2
timeout 60 ./finding
