package policy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const ours = "github.com/purserhq/purser/"

// root returns the top of the checkout.
func root(t testing.TB) string {
	t.Helper()
	dir, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// findRoot walks up from this package to the folder of go.work.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("there is no go.work above this package")
		}
		dir = up
	}
}

// pkg is a Go package with its imports.
type pkg struct {
	ImportPath string
	Imports    []string
	// TestImports and XTestImports are the imports of its tests.
	TestImports, XTestImports []string
	Standard                  bool
}

// graph is packages by import path.
type graph map[string]pkg

// load lists the workspace's packages and their dependencies.
func load(t testing.TB) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps",
		"-json=ImportPath,Imports,TestImports,XTestImports,Standard", "work")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(cmd.Dir, "go.work"))
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &failure)
	}
	g := graph{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
}

// source is a file of the checkout; path is relative to its root.
type source struct{ path, text string }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// under reports whether the file is in one of the folders.
func (s source) under(folders ...string) bool {
	for _, f := range folders {
		if strings.HasPrefix(s.path, f+"/") {
			return true
		}
	}
	return false
}

// sources returns the checkout's files with this ending, without generated ones.
// The tree is read once per test binary.
func sources(t testing.TB, ending string) []source {
	t.Helper()
	all, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	var found []source
	for _, s := range all {
		if strings.HasSuffix(s.path, ending) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no file ends in %s: the walk is wrong", ending)
	}
	return found
}

// readTree's files are of all tests at once: one that changes the slice clones it first.
var readTree = sync.OnceValues(func() ([]source, error) {
	top, err := findRoot()
	if err != nil {
		return nil, err
	}
	var found []source
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != top && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "bin" ||
				name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if name != "Makefile" && !slices.Contains(sourceEndings(), filepath.Ext(name)) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(top, path); err == nil && !generated(string(b)) {
			found = append(found, source{filepath.ToSlash(rel), string(b)})
		}
		return nil
	})
	return found, err
})

// sourceEndings are the endings of the files that readTree reads, besides Makefiles.
func sourceEndings() []string {
	return []string{".go", ".proto", ".sql", ".sh", ".css", ".js", ".html", ".yaml"}
}

// generated reports whether a Go file is marked as generated code above its package clause.
func generated(text string) bool {
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		line := s.Text()
		if strings.HasPrefix(line, "package ") {
			return false
		}
		if strings.HasPrefix(line, "// Code generated ") && strings.HasSuffix(line, " DO NOT EDIT.") {
			return true
		}
	}
	return false
}

func report(t *testing.T, breaches []string) {
	t.Helper()
	for _, b := range breaches {
		t.Error(b)
	}
}
