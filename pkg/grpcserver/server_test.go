package grpcserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestAServerDoesNotStartWithAMethodThatHasNoRule(t *testing.T) {
	for name, rule := range map[string]func(string) (grpcserver.Rule, bool){
		"none": func(m string) (grpcserver.Rule, bool) { r, ok := rules(m); return r, ok && m != mine },
		"an empty one": func(m string) (grpcserver.Rule, bool) {
			r, _ := rules(m)
			return ifNot(m == mine, r),
				true
		},
		"two in one":       func(m string) (grpcserver.Rule, bool) { return also(m == mine, m), true },
		"none on a stream": func(m string) (grpcserver.Rule, bool) { r, ok := rules(m); return r, ok && m != stream },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := grpcserver.New(plaintext(),
				grpcserver.Deps{Rules: rule, Verifier: known(), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			s.RegisterService(echo{}.desc(), echo{})
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = lis.Close() })
			want := mine
			if strings.Contains(name, "stream") {
				want = stream
			}
			err = s.Serve(lis)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), open) ||
				strings.Contains(err.Error(), "grpc.health") {
				t.Errorf("Serve = %v, want an error that names %s alone", err, want)
			}
		})
	}
}

func ifNot(cond bool, r grpcserver.Rule) grpcserver.Rule {
	if cond {
		return grpcserver.Rule{}
	}
	return r
}

func also(cond bool, method string) grpcserver.Rule {
	r, _ := rules(method)
	r.Public = r.Public || cond
	return r
}

func TestHealthAndReflectionAnswerAnybody(t *testing.T) {
	r := start(t, plaintext(), echo{})
	testkit.Eventually(t, 5*time.Second, func() bool {
		h, err := healthpb.NewHealthClient(r.conn).Check(t.Context(),
			&healthpb.HealthCheckRequest{Service: "test.v1.Echo"})
		return err == nil && h.GetStatus() == healthpb.HealthCheckResponse_SERVING
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := s.Send(ask); err != nil {
		t.Fatal(err)
	}
	if answer, err := s.Recv(); err != nil || len(answer.GetListServicesResponse().GetService()) < 3 {
		t.Errorf("%v, %v", answer, err)
	}
	r.NotReady()
	if h, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil ||
		h.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("not ready, but health says %v, %v", h, err)
	}
	if _, e := r.call(t.Context(), open, newNote("x")); e != nil {
		t.Errorf("not ready, and a call that came was not answered: %v", e)
	}
	if lines := r.log.lines(t, "call"); len(lines) != 1 {
		t.Errorf("health checks that went well are logged: %v", lines)
	}
}

func TestReflectionIsOffUnlessAskedFor(t *testing.T) {
	cfg := plaintext()
	cfg.Reflection = false
	r := start(t, cfg, echo{})
	for name := range r.GetServiceInfo() {
		if strings.Contains(name, "reflection") {
			t.Errorf("%s is registered", name)
		}
	}
}

// blocked is a unary method that tells when it is entered and waits.
func blocked(entered chan<- struct{}, leave <-chan struct{}) echo {
	return echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
		entered <- struct{}{}
		<-leave
		return in, nil
	}}
}

func TestShutdownWaitsForTheCallsUnderWay(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := start(t, plaintext(), blocked(entered, leave))
	answered, down := make(chan *errs.Error, 1), make(chan struct{})
	go func() {
		_, e := r.call(t.Context(), open, newNote("x"))
		answered <- e
	}()
	<-entered
	go func() {
		r.Shutdown(t.Context())
		close(down)
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { // new calls are refused by now
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case <-down:
		t.Fatal("Shutdown did not wait")
	default:
	}
	close(leave)
	if e := <-answered; e != nil {
		t.Errorf("the call under way was answered %v", e)
	}
	<-down
}

func TestShutdownIsBoundedThoughAHandlerNeverEnds(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := start(t, plaintext(), blocked(entered, leave))
	answered := make(chan *errs.Error, 1)
	go func() {
		_, e := r.call(t.Context(), open, newNote("x"))
		answered <- e
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	down := make(chan struct{})
	go func() {
		r.Shutdown(ctx)
		close(down)
	}()
	select {
	case <-down:
	case <-time.After(10 * time.Second):
		t.Error("Shutdown waits for a handler that never ends")
	}
	if e := <-answered; e == nil || e.Kind != errs.KindUnavailable {
		t.Errorf("the call that was cut off was answered %v", e)
	}
	close(leave)
	<-down
}

func TestShutdownEndsStreamsSoThatCallersOpenThemOnAnotherReplica(t *testing.T) {
	entered := make(chan struct{})
	r := start(t, plaintext(), echo{stream: func(ss grpc.ServerStream) error {
		close(entered)
		<-ss.Context().Done()
		return ss.Context().Err()
	}})
	s := r.openStream(as(t, "Bearer reader-secret"), t)
	<-entered
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	r.Shutdown(t.Context()) // without a limit: it ends because the streams do
	e := errs.As(grpcerr.FromError(s.RecvMsg(dynamicpb.NewMessage(note()))))
	if e == nil || e.Kind != errs.KindUnavailable || e.Reason != "SHUTTING_DOWN" || e.RetryAfter <= 0 ||
		e.RetryAfter > time.Second || !strings.Contains(e.Message, "open the stream again") {
		t.Errorf("the stream was answered %+v", e)
	}
	// Nothing that the server depends on is away.
	if lines := r.log.lines(t, "dependency unavailable"); len(lines) > 0 {
		t.Errorf("logged %v", lines)
	}
	begun, ended := r.log.lines(t, "draining"), r.log.lines(t, "drained")
	if len(begun) != 1 || begun[0]["streams"] != 1.0 || begun[0]["calls"] != 0.0 || len(ended) != 1 ||
		ended[0]["took"] == nil {
		t.Errorf("the drain was logged as %v, %v", begun, ended)
	}
	for err = nil; err == nil; _, err = watch.Recv() {
	}
	if e := errs.As(grpcerr.FromError(err)); e.Kind != errs.KindUnavailable {
		t.Errorf("the health watch was answered %v", e)
	}
}

func TestAServerThatIsStoppedBeforeItServesEndsWell(t *testing.T) {
	s, err := grpcserver.New(plaintext(), grpcserver.Deps{Rules: rules, Verifier: known(),
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.Shutdown(t.Context())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(lis); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// certificate writes a self-signed pair for 127.0.0.1.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	roots = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8), roots
}

func TestTLSIsOfVersion13Only(t *testing.T) {
	cfg := plaintext()
	cfg.Plaintext = false
	var roots *x509.CertPool
	cfg.TLSCert, cfg.TLSKey, roots = certificate(t)
	r := start(t, cfg, echo{})
	dial := func(maxVersion uint16) (*tls.Conn, error) {
		// The old version of TLS is what is tried.
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, MaxVersion: maxVersion, NextProtos: []string{"h2"}}}
		c, err := d.DialContext(t.Context(), "tcp", r.addr)
		if err != nil {
			return nil, err
		}
		return c.(*tls.Conn), nil
	}
	c, err := dial(tls.VersionTLS13)
	if err != nil || c.ConnectionState().Version != tls.VersionTLS13 {
		t.Fatalf("TLS 1.3: %v", err)
	}
	_ = c.Close()
	if c, err := dial(tls.VersionTLS12); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was taken")
	}
	if _, e := r.call(t.Context(), open, newNote("x")); e == nil || e.Kind != errs.KindUnavailable {
		t.Errorf("a call in plain text was answered %v", e)
	}
}

func TestAServerWithoutTLSNeedsAnExplicitSetting(t *testing.T) {
	cert, key, _ := certificate(t)
	absent := filepath.Join(t.TempDir(), "absent")
	d := grpcserver.Deps{Rules: rules, Verifier: known(), Log: slog.New(slog.DiscardHandler)}
	for name, tt := range map[string]struct {
		change func(*grpcserver.Config)
		want   string
	}{
		"neither":                       {func(*grpcserver.Config) {}, "PURSER_GRPC_TLS_CERT"},
		"a certificate without its key": {func(c *grpcserver.Config) { c.TLSCert = cert }, "PURSER_GRPC_TLS_KEY"},
		"a key without its certificate": {func(c *grpcserver.Config) { c.TLSKey = key }, "PURSER_GRPC_TLS_CERT"},
		"files that are not there": {func(c *grpcserver.Config) { c.TLSCert, c.TLSKey = absent, absent },
			"TLS certificate"},
		"a key that is a certificate": {func(c *grpcserver.Config) { c.TLSCert, c.TLSKey = cert, cert },
			"TLS certificate"},
		"both": {func(c *grpcserver.Config) {
			c.Plaintext, c.TLSCert, c.TLSKey = true, cert,
				key
		}, "choose one"},
		"a rate of nothing": {func(c *grpcserver.Config) { c.Plaintext, c.RatePerSecond = true, 0 },
			"RATE_PER_SECOND"},
		"a rate that is no number": {func(c *grpcserver.Config) {
			c.Plaintext, c.RatePerSecond = true,
				math.NaN()
		}, "RATE_PER_SECOND"},
		"a rate without end": {func(c *grpcserver.Config) {
			c.Plaintext, c.RatePerSecond = true,
				math.Inf(1)
		}, "RATE_PER_SECOND"},
		"a burst of nothing": {func(c *grpcserver.Config) { c.Plaintext, c.Burst = true, 0 }, "BURST"},
		"a least time above the most": {func(c *grpcserver.Config) { c.Plaintext, c.MinTimeout = true, time.Hour },
			"MAX_TIMEOUT"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := plaintext()
			cfg.Plaintext = false
			tt.change(&cfg)
			if _, err := grpcserver.New(cfg, d); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want mention of %s", err, tt.want)
			}
		})
	}
	if _, err := grpcserver.New(plaintext(), grpcserver.Deps{Rules: rules, Log: d.Log}); err == nil {
		t.Error("a server without a verifier was built")
	}
}
