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
	"strings"
	"testing"
)

const ours = "github.com/purserhq/purser/"

// root is the top of the checkout: where go.work is.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("there is no go.work above this package")
		}
		dir = up
	}
}

// pkg is a Go package and what it imports.
type pkg struct {
	ImportPath string
	Imports    []string
	// TestImports and XTestImports are those of its tests.
	TestImports, XTestImports []string
	Standard                  bool
}

// graph is packages by import path.
type graph map[string]pkg

// load lists the workspace's packages and all that they depend on.
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

// source is one file of ours, by its path from the root.
type source struct{ path, text string }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// under reports whether the file lies in one of the folders.
func (s source) under(folders ...string) bool {
	for _, f := range folders {
		if strings.HasPrefix(s.path, f+"/") {
			return true
		}
	}
	return false
}

// sources are the files of ours with this ending, generated ones left out.
func sources(t testing.TB, ending string) []source {
	t.Helper()
	top := root(t)
	var found []source
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
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
		if !strings.HasSuffix(name, ending) {
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
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no file ends in %s: the walk is wrong", ending)
	}
	return found
}

// generated reports whether a file says so above its package clause.
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
