package cluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// section is what a page says under a heading, and its commands.
type section struct{ heading, script string }

// sections returns the parts of a page that have commands, in their order.
func sections(t *testing.T, path string) (found []section) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s section
	commands := false
	for line := range strings.Lines(string(b)) {
		switch {
		case strings.HasPrefix(line, "```"):
			commands = strings.TrimSpace(line) == "```sh"
		case commands:
			s.script += line
		case strings.HasPrefix(line, "#"):
			if s.script != "" {
				found = append(found, s)
			}
			s = section{heading: strings.TrimSpace(strings.TrimLeft(line, "#"))}
		}
	}
	if s.script != "" {
		found = append(found, s)
	}
	return found
}

// The page is followed as it stands: each section's commands in one shell, the dumps in a folder of their own. What is
// written after the backup is gone after the restore, and what was there before is there again; another key-encryption
// key fails no call.
func TestThePageOfOperationsCanBeFollowed(t *testing.T) {
	needCluster(t)
	ca := setUp(t)
	scale(t, 1, services()...)
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "k8s"), filepath.Join(dir, "k8s")); err != nil {
		t.Fatal(err)
	}
	follow := func(s section) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", s.script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", s.heading, err, out)
		}
		t.Logf("%s:\n%s", s.heading, out)
	}
	defer func() {
		if _, err := tryKubectl(t, "", "-n", namespace, "delete", "pod", "postgres-client"); err != nil {
			t.Error(err)
		}
	}()
	followed := map[string]bool{}
	for _, s := range sections(t, "../../docs/kubernetes.md") {
		followed[s.heading] = true
		switch s.heading {
		case "Restore":
			before := rows(t)
			psql(t, "purser_auth", "CREATE TABLE made_after_the_dump (); GRANT ALL ON made_after_the_dump TO PUBLIC;"+
				"ALTER TABLE made_after_the_dump OWNER TO purser_auth")
			follow(s)
			if got := rows(t); got != before {
				t.Errorf("after the restore the tables have %s rows, before the dump %s", got, before)
			}
		case "Another key-encryption key":
			scale(t, 1, services()...)
			startCallers(t, ca)
			old := secretValue(t, "auth-secrets", "kek")
			before := settled(t)
			follow(s)
			compare(t, "another key-encryption key", before, settled(t), services()...)
			if secretValue(t, "auth-secrets", "kek") == old {
				t.Error("the key is the old one")
			}
		default:
			follow(s)
		}
	}
	for _, heading := range []string{"Back up", "Restore", "Another key-encryption key", "Scaling"} {
		if !followed[heading] {
			t.Errorf("the page has no commands under %q", heading)
		}
	}
}

// rows says how many tables auth's database has, and how many rows of what no running service changes.
func rows(t *testing.T) string {
	t.Helper()
	return kubectl(t, "", "-n", storesNamespace, "exec", "postgres-0", "--", "env", "PGPASSWORD=test-only", "psql",
		"-h", "127.0.0.1", "-U", "postgres", "-d", "purser_auth", "-Atc",
		"SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'), (SELECT count(*) FROM goose_db_version)")
}
