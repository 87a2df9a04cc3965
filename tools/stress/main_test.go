package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// module is one whose only test fails on one processor and, on two, when it runs for the second time.
const module = `package x

import (
	"os"
	"runtime"
	"testing"
)

func TestX(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Fatal("one processor is not enough")
	}
	if _, err := os.Stat("ran"); err == nil {
		t.Fatal("ran before")
	}
	if err := os.WriteFile("ran", nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
`

func TestFailuresAreCountedByProcessorsAndTheirOutputIsKept(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "x_test.go": module} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOWORK", "off")
	logs := t.TempDir()
	failures, err := stress(t.Context(), 2, time.Minute, logs, []string{"./..."})
	if err != nil || failures != 3 {
		t.Fatalf("%d failures, %v, want two on one processor and one on two", failures, err)
	}
	kept, err := filepath.Glob(filepath.Join(logs, "*.log"))
	if err != nil || len(kept) != 3 {
		t.Errorf("the output of failed runs is in %q, %v", kept, err)
	}
}

func TestARunThatDoesNotEndIsKilledWithWhatItStarted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	script := filepath.Join(t.TempDir(), "hang")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 60 &\nwait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	took, err := once(ctx, t.TempDir(), script, 1, time.Minute, log)
	if err == nil || took > 20*time.Second {
		t.Errorf("it ended after %v with %v", took, err)
	}
}

func TestTheTableHasARowForEachPackageAndNumberOfProcessors(t *testing.T) {
	var b strings.Builder
	table(&b, []row{{target: target{ImportPath: "github.com/purserhq/purser/pkg/page"}, cpus: 2, runs: 30, failures: 1,
		slowest: 1234 * time.Millisecond}})
	if want := "pkg/page     2    30         1    1.23s"; !strings.Contains(b.String(), want) {
		t.Errorf("printed %q, want %q in it", b.String(), want)
	}
}

// TestMain lets the test binary be the busy neighbour, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == burn {
		neighbour()
	}
	os.Exit(m.Run())
}
