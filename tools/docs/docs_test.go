// Package docs checks the pages of this repository: relative links lead somewhere, files that they name exist, and
// lines are not too long.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	root       = "../.."
	maxColumns = 119
)

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// named is a path from the root in backticks; it may be a pattern of filepath.Glob.
	named = regexp.MustCompile("`((?:docs|findings|k8s|pkg|proto|services|tools)/[\\w./*-]+)`")
)

// pages are all Markdown files of the checkout, by their path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", ".github/*.md", "docs/*.md", "docs/*/*.md", "findings/*.md",
		"third_party/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			path, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.ToSlash(path)] = string(b)
		}
	}
	if len(found) < 20 {
		t.Fatalf("only %d pages were found", len(found))
	}
	return found
}

// anchor is the fragment that a heading gets on the pages of the repository's host.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// headings are the anchors of a page.
func headings(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if hashes, heading, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.Trim(hashes, "#") == "" {
			found = append(found, anchor(heading))
		}
	}
	return found
}

// generated pages are written by a program, which does not wrap lines.
func generated(text string) bool { return strings.Contains(text, "\nGenerated from the contracts ") }

// amiss lists what is wrong with a page. exists reports whether a path from the root, or a match of it, exists;
// page returns the text of one.
func amiss(path, text string, exists func(string) bool, page func(string) string) []string {
	var found []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		target, fragment, _ := strings.Cut(m[1], "#")
		to := path
		if target != "" {
			to = filepath.ToSlash(filepath.Join(filepath.Dir(path), target))
		}
		if !exists(to) {
			found = append(found, path+": "+m[1]+" leads nowhere")
		} else if fragment != "" && !slices.Contains(headings(page(to)), fragment) {
			found = append(found, path+": "+m[1]+": the page has no such heading")
		}
	}
	for _, m := range named.FindAllStringSubmatch(text, -1) {
		if !exists(strings.TrimSuffix(m[1], "/...")) {
			found = append(found, path+": there is no "+m[1])
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if generated(text) {
			break
		}
		if utf8.RuneCountInString(line) > maxColumns && !strings.HasPrefix(line, "|") {
			found = append(found, path+": longer than 119 columns: "+line)
		}
	}
	return found
}

func TestLinksLeadSomewhereFilesExistAndLinesAreNotTooLong(t *testing.T) {
	all := pages(t)
	exists := func(path string) bool {
		matches, err := filepath.Glob(filepath.Join(root, path))
		return err == nil && len(matches) > 0
	}
	for path, text := range all {
		for _, problem := range amiss(path, text, exists, func(p string) string { return all[p] }) {
			t.Error(problem)
		}
	}
}

// The control of the test above.
func TestADeadLinkAMissingFileAndALongLineAreReported(t *testing.T) {
	exists := func(path string) bool { return path == "docs/a.md" }
	page := func(string) string { return "# One\n## Two `x`: three\n" }
	for text, want := range map[string]int{
		"[a](a.md) [b](a.md#one) [c](#two-x-three) [d](https://example.com/x)": 0,
		"[a](b.md)": 1, "[a](a.md#three)": 1, strings.Repeat("ä", 119): 0, strings.Repeat("ä", 120): 1,
		"| " + strings.Repeat("x", 200):                         0,
		"`docs/a.md` `pkg` `docs/<name>.md` `go test ./docs/b`": 0, "`docs/b.md`": 1,
	} {
		if got := amiss("docs/a.md", text, exists, page); len(got) != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
