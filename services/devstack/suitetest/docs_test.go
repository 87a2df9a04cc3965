package suitetest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// statement is one that a reader can paste into a shell, however many lines it
// has, and what the comments under it say comes of it.
type statement struct {
	doc      string
	line     int
	text     string
	expected string // comment below the statement
}

func (s statement) where() string { return fmt.Sprintf("%s:%d", s.doc, s.line) }

// shellBlocks returns the statements of a document's blocks that are marked as sh.
func shellBlocks(t *testing.T, doc string) []statement {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(checkout, doc))
	if err != nil {
		t.Fatal(err)
	}
	return statements(t, doc, string(b))
}

func statements(t *testing.T, doc, text string) []statement {
	t.Helper()
	var (
		all   []statement
		open  string // the language of the block
		begun int
		lines []string
	)
	for i, line := range strings.Split(text, "\n") {
		if fence, ok := strings.CutPrefix(line, "```"); ok {
			if open == "sh" && lines != nil {
				t.Errorf("%s:%d: bash cannot parse the statement that begins here", doc, begun)
			}
			if slices.Contains([]string{"bash", "shell", "console", "zsh"}, fence) {
				t.Errorf("%s:%d: mark the block as sh, so that it is run", doc, i+1)
			}
			open, lines = fence, nil
			continue
		}
		if open != "sh" {
			continue
		}
		if lines == nil {
			if line = strings.TrimRight(line, " "); line == "" || strings.HasPrefix(line, "#") {
				if len(all) > 0 && line != "" {
					all[len(all)-1].expected += line + "\n"
				}
				continue
			}
			begun = i + 1
		}
		lines = append(lines, line)
		whole := strings.Join(lines, "\n")
		if strings.HasSuffix(line, "\\") || exec.CommandContext(t.Context(), "bash", "-n", "-c", whole).Run() != nil {
			continue
		}
		all, lines = append(all, statement{doc: doc, line: begun, text: whole}), nil
	}
	return all
}

// shell is a bash that runs the statements of a document in one session.
type shell struct {
	in  io.Writer
	out *bufio.Reader
	dir string
	n   int
}

func startShell(t *testing.T, dir string, environ []string) *shell {
	t.Helper()
	cmd := exec.Command("bash")
	cmd.Dir, cmd.Env = checkout, environ
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{in: in, out: bufio.NewReader(out), dir: dir}
	late := time.AfterFunc(10*time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		_, _ = io.WriteString(in, "kill $(jobs -p) 2>/dev/null\n")
		_ = in.Close()
		_ = cmd.Wait()
		late.Stop()
	})
	return s
}

// run returns the output of a statement on stdout and stderr, and its exit code.
func (s *shell) run(text string) (printed string, code int, err error) {
	s.n++
	file := filepath.Join(s.dir, fmt.Sprint("output-", s.n))
	if _, err := fmt.Fprintf(s.in, "{\n%s\n} >%s 2>&1 </dev/null; echo $?\n", text, file); err != nil {
		return "", 0, err
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return "", 0, fmt.Errorf("the shell ended: %w", err)
	}
	if code, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return "", 0, err
	}
	b, err := os.ReadFile(file)
	return string(b), code, err
}

var (
	documented     = regexp.MustCompile(`76(0[1-9]|1[01]|50)`) // ports of make run, and the example's
	expectedCode   = regexp.MustCompile(`Code: (\w+)`)
	expectedReason = regexp.MustCompile(`\b[A-Z]+(_[A-Z]+)+\b`)
)

// reader is a user who runs the commands of a document.
type reader struct {
	s               *suite.Suite
	port, own       int // the suite's first, and one for a program of the reader's
	dir             string
	email, password string
	sh              *shell
	printed         []string        // by the statements so far
	used            map[string]bool // recovery codes
	other           string          // another user's id
}

// adapt returns a statement as it is run here: with this suite's ports, this user's data, and values for the
// document's placeholders.
func (r *reader) adapt(t *testing.T, s statement) string {
	t.Helper()
	text := documented.ReplaceAllStringFunc(s.text, func(port string) string {
		if port == "7650" {
			return strconv.Itoa(r.own)
		}
		n, _ := strconv.Atoi(port)
		return strconv.Itoa(r.port + n - suite.DefaultPort)
	})
	text = strings.ReplaceAll(text, "you@example.com", r.email)
	text = strings.ReplaceAll(text, "/run/secrets", r.dir)
	for _, p := range placeholders() {
		if p.doc == s.doc && strings.Contains(s.text, p.within) && strings.Contains(text, p.text) {
			text = strings.ReplaceAll(text, p.text, p.value(t, r))
		}
	}
	return text
}

// mismatch compares the result of a statement with the document; "" if they agree.
func mismatch(s statement, printed string, code int) string {
	want := expectedCode.FindStringSubmatch(s.expected)
	if (code != 0) != (want != nil) {
		return fmt.Sprintf("its exit code is %d", code)
	}
	if want == nil {
		return ""
	}
	for _, said := range append(expectedReason.FindAllString(s.expected, -1), want[0]) {
		if !strings.Contains(printed, said) {
			return "it doesn't print " + said
		}
	}
	return ""
}

// Every command of the documents is run against a suite, in its order in the document, or is listed in
// excludedStatements with the reason.
func TestTheCommandsInTheDocsWork(t *testing.T) {
	t.Parallel()
	port := freePorts(t)
	s := start(t, func(o *suite.Options) {
		o.Ports = suite.PortsFrom(port)
		o.Extra = map[string][]string{"auth": append(suite.ShortKeys(), "PURSER_ATTEMPTS_PER_ADDRESS=10000")}
	})
	makeGrpcurl(t)
	path := commands(t, s)
	used := map[string]bool{}
	for _, doc := range documents(t) {
		t.Run(doc, func(t *testing.T) {
			all := shellBlocks(t, doc)
			all = slices.DeleteFunc(all, func(s statement) bool {
				key, out := isExcluded(excludedStatements(), s)
				used[key] = used[key] || out
				return out
			})
			if len(all) == 0 {
				return
			}
			r := newReader(t, s, port, doc, path)
			for _, s := range all {
				adapted := r.adapt(t, s)
				printed, code, err := r.sh.run(adapted)
				if err != nil {
					t.Fatalf("%s: %v", s.where(), err)
				}
				r.printed = append(r.printed, printed)
				if a := mismatch(s, printed, code); a != "" {
					t.Errorf("%s: %s\n%s\nwas run as\n%s\nand printed\n%s", s.where(), a, s.text, adapted, printed)
				}
			}
		})
	}
	for key := range excludedStatements() {
		if !used[key] {
			t.Errorf("no document has %q: take it off the list", key)
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "k8s/*.md"} {
		found, err := filepath.Glob(filepath.Join(checkout, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			doc, err := filepath.Rel(checkout, f)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, filepath.ToSlash(doc))
		}
	}
	return docs
}

// isExcluded reports whether a statement is on the list of those that are not run, by its program or by its
// document and beginning.
func isExcluded(list map[string]string, s statement) (key string, out bool) {
	for key := range list {
		doc, begins, ok := strings.Cut(key, ": ")
		if !ok {
			begins = key + " "
		} else if doc != s.doc {
			continue
		}
		if strings.HasPrefix(s.text+" ", begins) {
			return key, true
		}
	}
	return "", false
}

// commands makes a folder with the programs that the documents name, each with its configuration in the suite.
func commands(t *testing.T, s *suite.Suite) (dir string) {
	t.Helper()
	dir = testkit.Folder(t)
	built := builtPrograms(t)
	for name, environ := range map[string][]string{
		"auth": s.AuthEnviron(), "wallet": s.WalletEnviron(s.Endpoints), "portfolio": s.PortfolioEnviron(s.Endpoints),
		"devstack": nil,
	} {
		script := "#!/usr/bin/env bash\n"
		for _, v := range environ {
			script += "export '" + strings.ReplaceAll(v, "'", `'\''`) + "'\n"
		}
		script += "exec " + filepath.Join(built, name) + ` "$@"` + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newReader registers a user named after the document. The shell has an access token as $TOKEN, and as a header
// $AUTH.
func newReader(t *testing.T, s *suite.Suite, port int, doc, path string) *reader {
	t.Helper()
	name := strings.ToLower(strings.TrimSuffix(filepath.Base(doc), ".md"))
	r := &reader{s: s, port: port, own: freePort(t), dir: testkit.Folder(t), email: "you-" + name + "@example.com",
		password: "correct horse battery", used: map[string]bool{}}
	if _, err := dial(t, s.Endpoints).Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: r.email, Password: r.password}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(adminDocs(), doc) {
		if _, err := s.AuthCommand(t.Context(), "admin", "grant", r.email, "--unverified"); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := filepath.Abs(filepath.Join(checkout, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	r.sh = startShell(t, r.dir, append(os.Environ(), "KUBECONFIG=/dev/null",
		"PATH="+path+":"+bin+":"+os.Getenv("PATH")))
	token := r.token(t)
	if _, _, err := r.sh.run(fmt.Sprintf("export TOKEN=%s AUTH='authorization: Bearer %[1]s'", token)); err != nil {
		t.Fatal(err)
	}
	return r
}

// The control of the test above, without a suite.
func TestTheOutputOfADocumentedCommandIsCompared(t *testing.T) {
	text := "```sh\nA=1 \\\n  B=2\nf() {\n  false\n}\n\nf # it fails\n# Code: NotFound … NO_SUCH\n```\n```go\nno " +
		"shell\n```\n"
	all := statements(t, "x.md", text)
	if len(all) != 3 || all[0].text != "A=1 \\\n  B=2" || all[1].line != 4 ||
		!strings.Contains(all[2].expected, "NO_SUCH") {
		t.Fatalf("read %+v", all)
	}
	sh := startShell(t, t.TempDir(), os.Environ())
	for text, want := range map[string]int{"true": 0, "false": 1, "X=1; (exit 7)": 7} {
		if _, code, err := sh.run(text); err != nil || code != want {
			t.Errorf("%s exits with %d, %v", text, code, err)
		}
	}
	if out, code, err := sh.run("echo $X; echo two >&2"); err != nil || code != 0 || out != "1\ntwo\n" {
		t.Errorf("printed %q, %d, %v", out, code, err)
	}
	list := map[string]string{"make": "", "x.md: grpcurl a": ""}
	for text, want := range map[string]string{"make run": "make", "maker": "", "grpcurl a b": "x.md: grpcurl a",
		"grpcurl b": ""} {
		if got, out := isExcluded(list, statement{doc: "x.md", text: text}); got != want || out != (want != "") {
			t.Errorf("%q is excluded by %q", text, got)
		}
	}
	for name, tt := range map[string]struct {
		expected, printed string
		code              int
		fine              bool
	}{
		"what works":                     {"# some words", "", 0, true},
		"what fails":                     {"# some words", "", 1, false},
		"what is said to fail and works": {"# Code: NotFound", "Code: NotFound", 0, false},
		"what is said to fail and does":  {"# Code: NotFound … NO_SUCH", "Code: NotFound NO_SUCH", 1, true},
		"what fails with another code":   {"# Code: NotFound", "Code: Internal", 1, false},
		"what fails for another reason":  {"# Code: NotFound … NO_SUCH", "Code: NotFound OTHER", 1, false},
	} {
		if a := mismatch(statement{expected: tt.expected}, tt.printed, tt.code); (a == "") != tt.fine {
			t.Errorf("%s: the mismatch is %q", name, a)
		}
	}
}
