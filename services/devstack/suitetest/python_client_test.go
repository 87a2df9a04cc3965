package suitetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/grpcclient"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

const pythonPage = "docs/clients/python.md"

func TestTheSnippetsForPythonWork(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"protoc", "grpc_python_plugin"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: the snippets of %s are not tried", program, pythonPage)
		}
	}
	python := pythonWithGRPC(t)
	makeGrpcurl(t)
	page, err := os.ReadFile(filepath.Join(checkout, pythonPage))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```python\n(# balances.py\n.*?)```").FindSubmatch(page)
	contracts, err := filepath.Abs(filepath.Join(checkout, "bin", "contracts"))
	if err != nil || found == nil {
		t.Fatalf("%s has no balances.py: %v", pythonPage, err)
	}
	port := freePorts(t)
	s := start(t, func(o *suite.Options) { o.Ports = suite.PortsFrom(port) })
	r := newReader(t, s, port, pythonPage, "")
	if err := os.WriteFile(filepath.Join(r.dir, "balances.py"), found[1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s.Endpoints).Wallets.CreateWallet(grpcclient.WithToken(t.Context(), r.token(t)),
		&walletv1.CreateWalletRequest{Account: account(s, s.Chain.Holders()[0]), Label: "cold"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.sh.run("cd '" + r.dir + "' && ln -s '" + contracts + "' contracts && mkdir bin && ln -s " +
		python + " bin/python3 && PATH=$PWD/bin:$PATH"); err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, st := range shellBlocks(t, pythonPage) {
		printed, code, err := r.sh.run(r.adapt(t, st))
		if err != nil || code != 0 {
			t.Fatalf("%s: %d, %v\n%s", st.where(), code, err, printed)
		}
		for line := range strings.Lines(st.expected) {
			if want := strings.TrimSpace(strings.TrimPrefix(line, "# ")); !strings.Contains(printed, want) {
				t.Errorf("%s doesn't print %q, but\n%s", st.where(), want, printed)
			}
		}
		all += printed
	}
	if !strings.Contains(all, "cold SYNC_STATE_PENDING block 0") {
		t.Errorf("it prints\n%s", all)
	}
}

// pythonWithGRPC is the first python3 that has grpcio: another one may stand before the system's in PATH.
func pythonWithGRPC(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(t.Context(), path, "-c", "import grpc").Run() == nil {
			return path
		}
	}
	t.Skipf("no python3 has grpcio: the snippets of %s are not tried", pythonPage)
	return ""
}
