// Package contracts tests tools/contracts.sh on a copy of the contracts.
package contracts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// checkout copies what buf reads of this checkout into a temporary folder.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []string{"buf.yaml", "proto/purser", "docs/examples/ledger/proto", "third_party"} {
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-r", filepath.Join(root, path), to).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s(make tools makes what is missing)", path, err, out)
		}
	}
	return dir
}

func run(t *testing.T, dir, command string) (output string, err error) {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(root, "tools/contracts.sh"))
	if err != nil {
		t.Fatal(err)
	}
	buf, err := filepath.Abs(filepath.Join(root, "bin/tools/buf"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, command)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "BUF="+buf)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// edit replaces the first occurrence of a text in a file of the copy.
func edit(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), from) {
		t.Fatalf("%s has no %q: the test needs another field", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestARemovedFieldFailsTheCheckAndIsNamed(t *testing.T) {
	dir := checkout(t)
	if out, err := run(t, dir, "image"); err != nil {
		t.Fatalf("image: %v\n%s", err, out)
	}
	for _, command := range []string{"check", "fresh"} {
		if out, err := run(t, dir, command); err != nil {
			t.Fatalf("%s of unchanged contracts: %v\n%s", command, err, out)
		}
	}
	token := filepath.Join(dir, "proto/purser/wallet/v1/token_service.proto")

	edit(t, token, "  string symbol = 2;", "  string symbol = 2;\n  string note = 1000;")
	if out, err := run(t, dir, "check"); err != nil {
		t.Errorf("an added field fails the check: %v\n%s", err, out)
	}
	if _, err := run(t, dir, "fresh"); err == nil {
		t.Error("an image of other contracts counts as fresh")
	}

	edit(t, token, "  string symbol = 2;\n", "")
	out, err := run(t, dir, "check")
	if err == nil || !strings.Contains(out, `"symbol" on message "Token"`) {
		t.Errorf("a removed field: %v\n%s", err, out)
	}
}
