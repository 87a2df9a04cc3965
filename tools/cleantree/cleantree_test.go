// Package cleantree tests tools/cleantree.sh on a checkout of its own.
package cleantree

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a",
		"GIT_COMMITTER_EMAIL=a@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writes(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		write(t, dir, name, content)
	}
}

func run(t *testing.T, dir string, args ...string) (output string, err error) {
	t.Helper()
	script, err := filepath.Abs("../cleantree.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAFileThatARunChangesFailsTheCheckAndIsNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		names  string // the file that the check names; "" when it passes
	}{
		"nothing":                   {func(*testing.T, string) {}, ""},
		"a tracked file":            {writes("go.work.sum", "more"), "go.work.sum"},
		"a file changed before":     {writes("edited.go", "newer"), "edited.go"},
		"a file that was reverted":  {writes("edited.go", "old"), "edited.go"},
		"a new file":                {writes("with a space", "x"), "with a space"},
		"an unknown file of before": {writes("notes.txt", "more"), "notes.txt"},
		"an ignored file":           {writes("out.test", "x"), ""},
		"a deleted file": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "go.work.sum")); err != nil {
				t.Fatal(err)
			}
		}, "go.work.sum"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, saved := t.TempDir(), filepath.Join(t.TempDir(), "saved")
			git(t, dir, "init", "-q")
			write(t, dir, "go.work.sum", "sums")
			write(t, dir, "edited.go", "old")
			write(t, dir, ".gitignore", "*.test\n")
			git(t, dir, "add", ".")
			git(t, dir, "commit", "-qm", "begin")
			write(t, dir, "edited.go", "new")
			write(t, dir, "notes.txt", "mine")
			if out, err := run(t, dir, "save", saved); err != nil {
				t.Fatalf("save: %v\n%s", err, out)
			}
			tt.change(t, dir)
			out, err := run(t, dir, "check", saved)
			if tt.names == "" && (err != nil || out != "") {
				t.Errorf("%v\n%s", err, out)
			}
			if tt.names != "" && (err == nil || !strings.HasSuffix(out, ":\n"+tt.names+"\n")) {
				t.Errorf("%v\n%swant %s", err, out, tt.names)
			}
		})
	}
}

func TestAWrongUseIsRefused(t *testing.T) {
	for _, args := range [][]string{{}, {"check"}, {"verify", "x"}} {
		if out, err := run(t, t.TempDir(), args...); err == nil || !strings.Contains(out, "cleantree.sh save FILE") &&
			!strings.Contains(out, "not a git repository") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
