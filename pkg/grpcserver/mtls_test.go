package grpcserver_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/testca"
)

const (
	serverID    = "spiffe://purser.example/ns/purser/sa/wallet"
	portfolioID = "spiffe://purser.example/ns/purser/sa/portfolio"
)

// mutual is a server that asks for certificates of clients, with its folder.
func mutual(t *testing.T, ca *testca.CA, ids ...string) (*running, *testca.Folder) {
	t.Helper()
	cert, key := ca.Issue(t, testca.Leaf{URIs: []string{serverID}})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	cfg := plaintext()
	cfg.Plaintext, cfg.TLSCert, cfg.TLSKey = false, folder.Cert(), folder.Key()
	cfg.TLSClientCA, cfg.TLSClientIDs = folder.CA(), ids
	return start(t, cfg, echo{}), folder
}

// client is a client's settings with a certificate of its own.
func client(t *testing.T, addr string, ca *testca.CA, of *testca.CA, l testca.Leaf) grpcclient.Config {
	t.Helper()
	return clientOf(t, addr, ca.PEM, of, l)
}

// clientOf is client with a bundle.
func clientOf(t *testing.T, addr string, bundle []byte, of *testca.CA, l testca.Leaf) grpcclient.Config {
	t.Helper()
	cert, key := of.Issue(t, l)
	folder := testca.NewFolder(t, bundle, cert, key)
	return grpcclient.Config{Addr: addr, CAFile: folder.CA(), TLSCert: folder.Cert(), TLSKey: folder.Key()}
}

// once calls over a connection of its own.
func once(t testing.TB, cfg grpcclient.Config) error {
	t.Helper()
	conn, err := grpcclient.Dial(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.Invoke(t.Context(), open, newNote("x"), dynamicpb.NewMessage(note()))
}

// refusals is how many were logged.
func (r *running) refusals(t *testing.T) int {
	return len(r.log.lines(t, "client refused by its certificate"))
}

// nextRefusal waits for a line after the first n: it may come after the client knows.
func (r *running) nextRefusal(t *testing.T, n int) map[string]any {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool { return r.refusals(t) > n })
	lines := r.log.lines(t, "client refused by its certificate")
	return lines[len(lines)-1]
}

func TestOnlyClientsOfTheListConnect(t *testing.T) {
	ca, other := testca.New(t, "ours"), testca.New(t, "another")
	r, _ := mutual(t, ca, portfolioID, "spiffe://purser.example/ns/tools/*")
	long := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1},
		Value: bytes.Repeat([]byte{1}, 300<<10)}
	for name, tt := range map[string]struct {
		of     *testca.CA
		leaf   testca.Leaf
		reason string // "" for one that connects
		logged string
	}{
		"the id of the list":     {ca, testca.Leaf{URIs: []string{portfolioID}}, "", ""},
		"an id below the prefix": {ca, testca.Leaf{URIs: []string{"spiffe://purser.example/ns/tools/sa/x"}}, "", ""},
		"for clients only": {ca, testca.Leaf{URIs: []string{portfolioID},
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, "", ""},
		"another id": {ca, testca.Leaf{URIs: []string{"spiffe://purser.example/ns/purser/sa/other"}}, "not_listed",
			"spiffe://purser.example/ns/purser/sa/other is not in the list of allowed ids: " + portfolioID},
		"the prefix without more": {ca, testca.Leaf{URIs: []string{"spiffe://purser.example/ns/tools"}},
			"not_listed", ""},
		"a longer name": {ca, testca.Leaf{URIs: []string{portfolioID + "2"}}, "not_listed", ""},
		"an id in capitals": {ca, testca.Leaf{URIs: []string{"spiffe://Purser.example/ns/purser/sa/portfolio"}},
			"no_id", "not a SPIFFE id"},
		"a star in the id": {ca, testca.Leaf{URIs: []string{"spiffe://purser.example/ns/tools/*"}},
			"no_id", ""},
		"dots in the path": {ca, testca.Leaf{URIs: []string{"spiffe://purser.example/ns/tools/../x"}},
			"no_id", ""},
		"two URIs":     {ca, testca.Leaf{URIs: []string{portfolioID, serverID}}, "no_id", "has 2 URIs"},
		"the id twice": {ca, testca.Leaf{URIs: []string{portfolioID, portfolioID}}, "no_id", "has 2 URIs"},
		"a name and no URI": {ca, testca.Leaf{Subject: "portfolio", Names: []string{"portfolio"}},
			"no_id", "no URI"},
		"another kind of URI": {ca, testca.Leaf{URIs: []string{"https://purser.example/"}},
			"no_id", "not a SPIFFE id"},
		"an authority":         {ca, testca.Leaf{URIs: []string{portfolioID}, IsCA: true}, "no_id", "of an authority"},
		"of another authority": {other, testca.Leaf{URIs: []string{portfolioID}}, "untrusted", "unknown authority"},
		"for servers only": {ca, testca.Leaf{URIs: []string{portfolioID},
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, "invalid", "incompatible key usage"},
		"a certificate of a future": {ca, testca.Leaf{URIs: []string{portfolioID},
			NotBefore: time.Now().Add(time.Hour)}, "expired", "not yet valid"},
		"a huge one": {ca, testca.Leaf{URIs: []string{portfolioID},
			AdditionalExtensions: []pkix.Extension{long}}, "-", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.refusals(t)
			cfg := client(t, r.addr, ca, tt.of, tt.leaf)
			err := once(t, cfg)
			if tt.reason == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !errs.Is(err, errs.KindUnavailable) {
				t.Fatalf("the call was answered %v", err)
			}
			if tt.reason == "-" {
				return
			}
			if text := err.Error(); !strings.Contains(text, "the server refused the client's certificate (") ||
				!strings.Contains(text, "its log has the reason: remote error: tls: ") {
				t.Errorf("the caller is told %s", text)
			}
			last := r.nextRefusal(t, before)
			if last["reason"] != tt.reason || !strings.Contains(fmt.Sprint(last["error"]), tt.logged) ||
				!strings.HasPrefix(fmt.Sprint(last["peer"]), "127.0.0.1:") || last["presented"] == "" {
				t.Errorf("logged %v", last)
			}
		})
	}
	t.Run("without a certificate", func(t *testing.T) {
		cfg := client(t, r.addr, ca, ca, testca.Leaf{})
		cfg.TLSCert, cfg.TLSKey = "", ""
		before := r.refusals(t)
		err := once(t, cfg)
		if err == nil || !strings.Contains(err.Error(), "refused the client, which has no certificate, its log") {
			t.Errorf("the caller is told %v", err)
		}
		if last := r.nextRefusal(t, before); last["reason"] != "no_certificate" {
			t.Errorf("logged %v", last)
		}
	})
}

// A resumed session would go on with what was verified when the list or the bundle was
// another: none is.
func TestNoSessionIsResumedWithAClientsCertificate(t *testing.T) {
	ca := testca.New(t, "ours")
	r, folder := mutual(t, ca, portfolioID)
	dial := func(cfg *tls.Config) (resumed bool, err error) {
		conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", r.addr)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		// The server's settings come after its session tickets, if it has any.
		_, err = conn.Read(make([]byte, 1))
		return conn.(*tls.Conn).ConnectionState().DidResume, err
	}
	cert, key := ca.Issue(t, testca.Leaf{URIs: []string{portfolioID}})
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	cfg := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"},
		MinVersion: tls.VersionTLS13, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for range 3 {
		if resumed, err := dial(cfg); err != nil || resumed {
			t.Fatalf("resumed: %t, %v", resumed, err)
		}
	}
	other := testca.New(t, "another")
	cert, key = other.Issue(t, testca.Leaf{})
	folder.Put(t, other.PEM, cert, key)
	roots.AddCert(other.Cert)
	testkit.Eventually(t, time.Minute, func() bool { _, err := dial(cfg); return err != nil })

	// The control: a server with tickets resumes, so that this client would.
	plain := plaintext()
	plain.Plaintext, plain.TLSCert, plain.TLSKey = false, folder.Cert(), folder.Key()
	r = start(t, plain, echo{})
	testkit.Eventually(t, time.Minute, func() bool { resumed, err := dial(cfg); return err == nil && resumed })
}

// The authority of clients and servers is replaced in three steps; each leaves those that
// have not taken it yet connected.
func TestAnAuthorityIsReplacedWithoutARefusedConnection(t *testing.T) {
	first, second := testca.New(t, "first"), testca.New(t, "second")
	r, server := mutual(t, first, portfolioID)
	cfg := client(t, r.addr, first, first, testca.Leaf{URIs: []string{portfolioID}})
	cfg.TLSServerID = serverID
	both := append(bytes.Clone(first.PEM), second.PEM...)
	put := func(f *testca.Folder, bundle []byte, of *testca.CA, id string) {
		cert, key := of.Issue(t, testca.Leaf{URIs: []string{id}})
		f.Put(t, bundle, cert, key)
	}
	old := cfg // a client that takes nothing over
	works := func(c grpcclient.Config) func() bool {
		return func() bool { return once(t, c) == nil }
	}
	if err := once(t, cfg); err != nil {
		t.Fatal(err)
	}
	put(server, both, first, serverID)
	newer := clientOf(t, r.addr, both, second, testca.Leaf{URIs: []string{portfolioID}})
	testkit.Eventually(t, time.Minute, works(newer))
	if err := once(t, old); err != nil {
		t.Errorf("while both are trusted the old client: %v", err)
	}
	put(server, second.PEM, second, serverID)
	testkit.Eventually(t, time.Minute, func() bool { return once(t, old) != nil })
	if err := once(t, newer); err != nil {
		t.Errorf("a client that has both: %v", err)
	}
}

// A connection that is open takes over nothing; its successor does. A client's files are read
// at each connection.
func TestAClientTakesItsNewFilesWithTheNextConnection(t *testing.T) {
	ca, other := testca.New(t, "ours"), testca.New(t, "another")
	r, _ := mutual(t, ca, portfolioID)
	cert, key := other.Issue(t, testca.Leaf{URIs: []string{portfolioID}})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: r.addr, CAFile: folder.CA(), TLSCert: folder.Cert(),
		TLSKey: folder.Key()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func() error {
		return conn.Invoke(t.Context(), open, newNote("x"), dynamicpb.NewMessage(note()))
	}
	if err := call(); !errs.Is(err, errs.KindUnavailable) {
		t.Fatalf("of another authority: %v", err)
	}
	cert, key = ca.Issue(t, testca.Leaf{URIs: []string{portfolioID}})
	folder.Put(t, ca.PEM, cert, key)
	testkit.Eventually(t, time.Minute, func() bool { return call() == nil })
}

// Calls are made over new connections while a certificate of seconds is replaced before it
// expires. The control is a server whose certificate is not.
func TestNoCallFailsWhileACertificateOfSecondsIsReplaced(t *testing.T) {
	const life = 6 * time.Second
	ca := testca.New(t, "ours")
	issue := func() (cert, key []byte) {
		return ca.Issue(t, testca.Leaf{URIs: []string{serverID}, NotAfter: time.Now().Add(life)})
	}
	cert, key := issue()
	renewed, kept := testca.NewFolder(t, ca.PEM, cert, key), testca.NewFolder(t, ca.PEM, cert, key)
	serve := func(f *testca.Folder) grpcclient.Config {
		cfg := plaintext()
		cfg.Plaintext, cfg.TLSCert, cfg.TLSKey = false, f.Cert(), f.Key()
		return grpcclient.Config{Addr: start(t, cfg, echo{}).addr, CAFile: f.CA()}
	}
	to, control := serve(renewed), serve(kept)
	calls, next := 0, time.Now()
	testkit.Eventually(t, time.Minute, func() bool {
		if time.Now().After(next) {
			cert, key := issue()
			renewed.Put(t, ca.PEM, cert, key)
			next = time.Now().Add(life / 3)
		}
		if err := once(t, to); err != nil {
			t.Fatalf("call %d: %v", calls, err)
		}
		calls++
		err := once(t, control)
		if err != nil && !strings.Contains(err.Error(), "certificate has expired") {
			t.Fatalf("the control: %v", err)
		}
		return err != nil
	})
	testkit.Figure(t, "%d calls, each over a new connection, while a certificate of %s was replaced every %s: "+
		"0 failed; without the replacement they fail", calls, life, life/3)
}

func TestAFloodOfRefusedClientsDoesNotFloodTheLog(t *testing.T) {
	ca := testca.New(t, "ours")
	r, _ := mutual(t, ca, portfolioID)
	stranger, listed := client(t, r.addr, ca, ca, testca.Leaf{URIs: []string{serverID}}),
		client(t, r.addr, ca, ca, testca.Leaf{URIs: []string{portfolioID}})
	for range 60 {
		if err := once(t, stranger); err == nil {
			t.Fatal("a stranger was let in")
		}
	}
	if err := once(t, listed); err != nil {
		t.Errorf("during the flood: %v", err)
	}
	bare := listed
	bare.TLSCert, bare.TLSKey = "", ""
	before := r.refusals(t)
	_ = once(t, bare)
	r.nextRefusal(t, before)
	reasons := map[any]int{}
	for _, line := range r.log.lines(t, "client refused by its certificate") {
		reasons[line["reason"]]++
	}
	if n := reasons["not_listed"]; n < 10 || n > 20 || reasons["no_certificate"] == 0 {
		t.Errorf("logged %v, want some of the flood and all other reasons", reasons)
	}
}

// The health port takes probes, which have no certificate.
func TestTheHealthCheckSaysThatItNeedsTheHealthPort(t *testing.T) {
	cfg := grpcserver.Config{Addr: "127.0.0.1:7", TLSCert: "x", TLSKey: "y", TLSClientCA: "z"}
	if err := grpcserver.CheckHealth(t.Context(), cfg); err == nil ||
		!strings.Contains(err.Error(), "PURSER_GRPC_HEALTH_ADDR") {
		t.Errorf("error %v", err)
	}
}

func TestSettingsOfClientCertificatesAreCheckedTogether(t *testing.T) {
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	for name, tt := range map[string]struct {
		change func(*grpcserver.Config)
		want   []string
	}{
		"a bundle without a list": {func(c *grpcserver.Config) { c.TLSClientIDs = nil },
			[]string{"TLS_CLIENT_IDS must"}},
		"a list without a bundle": {func(c *grpcserver.Config) { c.TLSClientCA = "" }, []string{"TLS_CLIENT_CA and"}},
		"entries that are no ids": {func(c *grpcserver.Config) { c.TLSClientIDs = []string{"*", "portfolio"} },
			[]string{"PURSER_GRPC_TLS_CLIENT_IDS", `"*"`, `"portfolio"`}},
		"without TLS": {func(c *grpcserver.Config) { c.Plaintext, c.TLSCert, c.TLSKey = true, "", "" },
			[]string{"PURSER_GRPC_PLAINTEXT"}},
		"a bundle that is not there": {func(c *grpcserver.Config) { c.TLSClientCA += ".absent" },
			[]string{"PURSER_GRPC_TLS_CLIENT_CA", "no such file"}},
		"everything": {func(c *grpcserver.Config) { c.TLSClientCA, c.TLSCert = "/absent", "/absent" },
			[]string{"PURSER_GRPC_TLS_CLIENT_CA", "PURSER_GRPC_TLS_CERT"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := plaintext()
			cfg.Plaintext, cfg.TLSCert, cfg.TLSKey = false, folder.Cert(), folder.Key()
			cfg.TLSClientCA, cfg.TLSClientIDs = folder.CA(), []string{portfolioID}
			if err := errors.Join(cfg.Validate(), cfg.Check()); err != nil {
				t.Fatal(err)
			}
			tt.change(&cfg)
			err := errors.Join(cfg.Validate(), cfg.Check())
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want mention of %s", err, want)
				}
			}
		})
	}
}
