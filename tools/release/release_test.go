// Package release tests tools/release.sh: what it tags can be used by a module outside the tree.
package release

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// program is another team's, on the lock and the client.
const program = `package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/proto/client"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

func settle(ctx context.Context) error {
	redis, err := redisx.New(redisx.Options{URL: os.Getenv("REDIS_URL"), Name: "billing"})
	if err != nil {
		return err
	}
	locker := lock.New(redis, lock.Options{Prefix: "billing"})
	return locker.Do(ctx, "settlement", 10*time.Second, func(ctx context.Context, _ *lock.Guard) error {
		c, err := client.Dial(client.Config{Wallet: "wallet:7602", Credentials: client.ServiceAccount("billing", "x")})
		if err != nil {
			return err
		}
		list, err := c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
		fmt.Println(list.GetWallets())
		return errors.Join(err, c.Close())
	})
}

func main() {
	if len(os.Args) > 1 {
		_ = settle(context.Background())
	}
	fmt.Println("built", errs.KindNotFound)
}
`

// version is one of its own for each run, since a module cache never looks at a version twice.
var version = fmt.Sprintf("v0.1.0-test.%d", time.Now().UnixNano())

// modules are those that `make release` names.
func modules(t *testing.T, root string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^RELEASED := (.*)$`).FindStringSubmatch(string(b))
	if found == nil {
		t.Fatal("the Makefile has no line RELEASED")
	}
	return strings.Fields(found[1])
}

func run(t *testing.T, dir string, environ []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, dir string, environ []string, name string, args ...string) string {
	t.Helper()
	out, err := run(t, dir, environ, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func TestAReleaseCanBeRequiredFromOutsideTheTreeWithoutReplace(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	names := modules(t, root)
	clone := filepath.Join(t.TempDir(), "purser")
	must(t, root, nil, "git", "clone", "--quiet", "--no-tags", "--shared", ".", clone)
	// What is not committed yet is tested too.
	for _, path := range append([]string{"tools/release.sh", "tools/publish", "third_party"}, names...) {
		must(t, root, nil, "cp", "-r", path, filepath.Join(clone, filepath.Dir(path))+"/")
	}
	who := []string{"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t",
		"GIT_COMMITTER_EMAIL=t@example.com"}
	must(t, clone, nil, "git", "add", "--all")
	must(t, clone, who, "git", "commit", "--quiet", "--allow-empty", "--message", "As it is")
	head := must(t, clone, nil, "git", "rev-parse", "HEAD")
	release := append([]string{"tools/release.sh", version}, names...)

	if err := os.WriteFile(filepath.Join(clone, "dirty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, clone, who, "bash", release...); err == nil || !strings.Contains(out, "not committed") {
		t.Errorf("a dirty tree is released: %v\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(clone, "dirty")); err != nil {
		t.Fatal(err)
	}
	must(t, clone, who, "bash", release...)
	if out := must(t, clone, who, "bash", release...); !strings.Contains(out, "prepared already") {
		t.Errorf("the second time it says %s", out)
	}
	if got := must(t, clone, nil, "git", "rev-parse", "HEAD"); got != head {
		t.Errorf("the branch moved from %s to %s", head, got)
	}
	if out := must(t, clone, nil, "git", "status", "--porcelain"); out != "" {
		t.Errorf("files of the checkout changed:\n%s", out)
	}

	for _, name := range []string{"purser.protoset", "purser-contracts.tar.gz"} {
		if f, err := os.Stat(filepath.Join(clone, "bin", "release", name)); err != nil || f.Size() < 10_000 {
			t.Errorf("the release has no %s for clients in other languages: %v", name, err)
		}
	}

	// The release commit itself builds, also the modules that are not released.
	must(t, clone, nil, "git", "checkout", "--quiet", version)
	for _, m := range append([]string{"services/wallet", "services/devstack"}, names...) {
		alone := []string{"GOWORK=off", "GOFLAGS=-mod=readonly"}
		must(t, filepath.Join(clone, m), alone, "go", "list", "-deps", "./...")
	}

	proxy, consumer := t.TempDir(), t.TempDir()
	must(t, filepath.Join(root, "tools"), []string{"GOWORK=off"}, "go",
		append([]string{"run", "./moduleproxy", clone, proxy, version}, names...)...)
	goMod := "module example.com/billing\n\ngo 1.26.0\n\nrequire (\n"
	sums := map[string]bool{}
	for _, m := range names {
		goMod += "\tgithub.com/purserhq/purser/" + m + " " + version + "\n"
		b, err := os.ReadFile(filepath.Join(clone, m, "go.sum"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			sums[line] = true
		}
	}
	goSum := ""
	for line := range sums {
		goSum += line
	}
	for name, text := range map[string]string{"go.mod": goMod + ")\n", "go.sum": goSum, "main.go": program} {
		if err := os.WriteFile(filepath.Join(consumer, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"GOWORK=off", "GOFLAGS=-mod=mod -modcacherw -buildvcs=false",
		"GONOSUMDB=github.com/purserhq/*",
		"GOPROXY=file://" + proxy + "," + strings.TrimSpace(must(t, root, nil, "go", "env", "GOPROXY"))}
	forget(t, strings.TrimSpace(must(t, root, nil, "go", "env", "GOMODCACHE")))
	must(t, consumer, environ, "go", "build", "-trimpath", "-o", "billing", ".")
	if out := must(t, consumer, nil, "./billing"); !strings.Contains(out, "built") {
		t.Errorf("the program prints %s", out)
	}
	for _, m := range names {
		out := must(t, consumer, environ, "go", "list", "-m", "github.com/purserhq/purser/"+m)
		if !strings.Contains(out, m+" "+version) {
			t.Errorf("%s is built with %s", m, out)
		}
	}
}

// forget removes the modules of this version from the module cache after the test.
func forget(t *testing.T, cache string) {
	t.Cleanup(func() {
		for _, pattern := range []string{"", "*/"} {
			for _, base := range []string{"github.com/purserhq/purser/" + pattern + "*@" + version,
				"cache/download/github.com/purserhq/purser/" + pattern + "*/@v/" + version + ".*"} {
				found, err := filepath.Glob(filepath.Join(cache, base))
				if err != nil {
					t.Error(err)
				}
				for _, f := range found {
					if err := os.RemoveAll(f); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
}
