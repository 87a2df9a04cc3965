package app_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// checkout is the root of the repository.
const checkout = "../../.."

// verifierFolder is where the npm packages of docs/verifiers/javascript.md are installed; Git ignores it.
const verifierFolder = checkout + "/.build/verifiers"

// installVerifiers installs the npm packages that the lock file pins, unless they are there.
var installVerifiers = sync.OnceValue(func() error {
	if err := os.MkdirAll(verifierFolder, 0o755); err != nil {
		return err
	}
	done, changed := filepath.Join(verifierFolder, "installed"), false
	for _, name := range []string{"package.json", "package-lock.json"} {
		wanted, err := os.ReadFile(filepath.Join("testdata/verifiers", name))
		if err != nil {
			return err
		}
		path := filepath.Join(verifierFolder, name)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, wanted) {
			changed = true
			_ = os.Remove(done)
			if err := os.WriteFile(path, wanted, 0o644); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(done); err == nil && !changed {
		return nil
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = verifierFolder
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.WriteFile(done, nil, 0o644)
})

// needNode skips a test where Node.js or npm is missing, and installs the packages otherwise.
func needNode(t *testing.T) {
	t.Helper()
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is missing: the verifiers of docs/verifiers/javascript.md are not tried", name)
		}
	}
	if err := installVerifiers(); err != nil {
		t.Fatal(err)
	}
}

// verifierBlock is a block of code of the pages, after a comment with its name.
var verifierBlock = regexp.MustCompile("(?s)<!-- verifier: (\\S+) -->\n```(?:js|go)\n(.*?)```\n")

// verifierBlocks returns the code of a page by name.
func verifierBlocks(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, "docs/verifiers", page))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, found := range verifierBlock.FindAllStringSubmatch(string(text), -1) {
		blocks[found[1]] = found[2]
	}
	if fences := strings.Count(string(text), "\n```") / 2; len(blocks) != fences || fences == 0 {
		t.Fatalf("%s has %d blocks of code, and %d with a name", page, fences, len(blocks))
	}
	return blocks
}

// verifierCommands writes the code of the pages to programs that verify tokens, and returns their command lines by
// name.
func verifierCommands(t *testing.T) map[string][]string {
	t.Helper()
	needNode(t)
	commands := map[string][]string{}
	dir, err := os.MkdirTemp(verifierFolder, "run-") // Node looks for packages above it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if dir, err = filepath.Abs(dir); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	driver, err := filepath.Abs("testdata/verifiers/driver.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for name, code := range verifierBlocks(t, "javascript.md") {
		commands[strings.TrimSuffix(name, ".mjs")] = []string{"node", driver, write(name, code)}
	}
	goDriver, err := os.ReadFile("testdata/verifiers/driver.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, code := range verifierBlocks(t, "go.md") {
		file := write(name+"/verifier.go", "package main\n\n"+code)
		program := filepath.Join(dir, name, "verify")
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, file,
			write(name+"/driver.go", string(goDriver)))
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("the code of %s doesn't build: %v\n%s", name, err, out)
		}
		commands[name] = []string{program}
	}
	return commands
}

// verifier is a running program that verifies tokens.
type verifier struct {
	name string
	in   io.Writer
	out  *bufio.Reader
	mu   sync.Mutex
}

// startVerifier runs a program until the test ends. maxAge is its JWKS_MAX_AGE in seconds.
func startVerifier(t *testing.T, name string, command []string, issuer string, maxAge int) *verifier {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PURSER_ISSUER="+issuer, fmt.Sprintf("JWKS_MAX_AGE=%d", maxAge))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); t.Failed() {
			t.Logf("%s: %v %s", name, err, stderr.String())
		}
	})
	return &verifier{name: name, in: in, out: bufio.NewReader(out)}
}

// verify returns an error with what the program answers, unless it accepts the token.
func (v *verifier) verify(token string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := io.WriteString(v.in, token+"\n"); err != nil {
		return err
	}
	answer, err := v.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s ended: %w", v.name, err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return errors.New(answer)
	}
	return nil
}

// until polls a program until its answer is as wanted, and returns how long that took; at most limit.
func (v *verifier) until(t *testing.T, token string, accepted bool, limit time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := v.verify(token)
		if (err == nil) == accepted {
			return time.Since(begun)
		}
		if time.Since(begun) > limit {
			t.Errorf("%s: after %s the token is accepted: %v (%v)", v.name, limit, !accepted, err)
			return limit
		}
		<-tick.C
	}
}
