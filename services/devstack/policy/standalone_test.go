package policy_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// externalProgram is another team's program on the library and the contracts.
const externalProgram = `package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/purserhq/purser/pkg/authn"
	_ "github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	_ "github.com/purserhq/purser/pkg/jobs"
	_ "github.com/purserhq/purser/pkg/lifecycle"
	_ "github.com/purserhq/purser/pkg/lock"
	_ "github.com/purserhq/purser/pkg/page"
	_ "github.com/purserhq/purser/pkg/postgres"
	_ "github.com/purserhq/purser/pkg/redisx"
	_ "github.com/purserhq/purser/pkg/telemetry"
	"github.com/purserhq/purser/proto/access"
	_ "github.com/purserhq/purser/proto/client"
	_ "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

type settings struct {
	GRPC   grpcserver.Config ` + "`envPrefix:\"GRPC_\"`" + `
	Wallet grpcclient.Config ` + "`envPrefix:\"WALLET_\"`" + `
	Key    config.Secret     ` + "`env:\"KEY\"`" + `
}

type walletServer struct {
	walletv1.UnimplementedWalletServiceServer
}

func main() {
	var s settings
	if err := config.Load(os.Environ(), &s); err != nil {
		fmt.Println(grpcerr.ToStatus(errs.Internal(err)))
	}
	keys := authn.NewRemoteKeys("https://issuer.example/jwks.json", slog.Default())
	defer func() { _ = keys.Close() }()
	server, err := grpcserver.New(s.GRPC, grpcserver.Deps{
		Rules: access.Lookup, Log: slog.Default(),
		Verifier: authn.NewVerifier(keys, authn.Options{Issuer: "https://issuer.example"}),
	})
	if err != nil {
		fmt.Println("expected:", err)
		return
	}
	walletv1.RegisterWalletServiceServer(server, walletServer{})
	server.Shutdown(context.Background())
}
`

func TestAnotherTeamsModuleBuildsOnTheLibraryAndTheContracts(t *testing.T) {
	t.Parallel()
	top, dir := root(t), t.TempDir()
	write(t, dir, "main.go", externalProgram)
	write(t, dir, "go.mod", strings.Join([]string{
		"module example.com/scratch", "", "go 1.26.0", "",
		"require " + ours + "pkg v0.0.0", "require " + ours + "proto v0.0.0", "require " + ours + client + " v0.0.0",
		"",
		"replace " + ours + "pkg => " + filepath.Join(top, "pkg"),
		"replace " + ours + "proto => " + filepath.Join(top, "proto"),
		"replace " + ours + client + " => " + filepath.Join(top, client), "",
	}, "\n"))
	write(t, dir, "go.sum", mergeSums(t, filepath.Join(top, "pkg"), filepath.Join(top, "proto"),
		filepath.Join(top, client)))
	args := []string{"build", "-trimpath", "-o", "scratch"}
	if raceDetector() { // reuses the packages of this test binary from the build cache
		args = append(args, "-race")
	}
	goOutsideWorkspace(t, dir, append(args, ".")...)
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "scratch")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PURSER_GRPC_TLS_CERT") {
		t.Errorf("the program ran with %v:\n%s", err, out)
	}
}

// raceDetector reports whether this test binary was built with -race.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// goOutsideWorkspace runs the go command in a module outside the workspace.
func goOutsideWorkspace(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s outside the workspace: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mergeSums joins the go.sum files of modules.
func mergeSums(t *testing.T, modules ...string) string {
	t.Helper()
	lines := map[string]bool{}
	for _, m := range modules {
		b, err := os.ReadFile(filepath.Join(m, "go.sum"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			lines[line] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(lines)), "")
}
