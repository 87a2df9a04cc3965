package suitetest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

const (
	ledger      = "../../../docs/examples/ledger"
	listEntries = "/example.ledger.v1.LedgerService/ListEntries"
	closeBooks  = "/example.ledger.v1.LedgerService/CloseBooks"
)

// The example of docs/protect-your-service.md runs as a program beside the suite.
func TestAnotherTeamsServiceAppliesItsOwnAccessRulesToTokens(t *testing.T) {
	s := shared(t)
	c, err := demo.Dial(s.Endpoints)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, tokens := signIn(t, c)
	token := tokens.GetAccessToken()
	addr := startLedger(t, s)
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	call := func(ctx context.Context, method string) (string, *errs.Error) {
		var answer emptypb.Empty // keeps the fields as unknown ones
		err := conn.Invoke(ctx, method, &emptypb.Empty{}, &answer)
		return string(answer.ProtoReflect().GetUnknown()), errs.As(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		_, e := call(t.Context(), listEntries)
		return e != nil && e.Kind == errs.KindUnauthenticated
	})
	with := func(token string) context.Context {
		if token == "" {
			return t.Context()
		}
		return grpcclient.WithToken(t.Context(), token)
	}
	if answer, e := call(with(token), listEntries); e != nil || !strings.Contains(answer, "opened by ") {
		t.Errorf("with a token it answers %q, %v", answer, e)
	}
	for name, tt := range map[string]struct {
		token  string
		method string
		kind   errs.Kind
		reason string
	}{
		"without a token":        {"", listEntries, errs.KindUnauthenticated, "TOKEN_MISSING"},
		"with a truncated token": {token[:len(token)-2], listEntries, errs.KindUnauthenticated, "TOKEN_INVALID"},
		"without the permission": {token, closeBooks, errs.KindPermissionDenied, "PERMISSION_MISSING"},
	} {
		if _, e := call(with(tt.token), tt.method); e == nil || e.Kind != tt.kind || e.Reason != tt.reason {
			t.Errorf("%s it answers %v", name, e)
		}
	}
}

func TestTheExampleIsUnder30LinesOfItsOwn(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(ledger, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(b), "\n)\n") // after the imports
	lines := 0
	for line := range strings.Lines(own) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines >= 30 {
		t.Errorf("it has %d", lines)
	}
}

// startLedger builds the example and runs it until the test ends. It returns its address.
func startLedger(t *testing.T, s *suite.Suite) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "ledger")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, ".")
	build.Dir = ledger
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	run := exec.Command(program)
	run.Env = append(os.Environ(), "PURSER_ISSUER="+s.Issuer(),
		"PURSER_JWKS_URL=http://"+s.Endpoints.AuthHTTP+"/.well-known/jwks.json",
		"PURSER_GRPC_ADDR="+addr, "PURSER_GRPC_PLAINTEXT=true")
	var told bytes.Buffer
	run.Stdout, run.Stderr = io.Discard, &told
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Logf("it told:\n%s", told.String())
		}
	})
	return addr
}
