package servicetest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/internal/servicetest"
)

// outcome notes how a test ends.
type outcome struct {
	testing.TB
	text string
}

func (o *outcome) Skipf(format string, args ...any) {
	o.text = "skipped: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (o *outcome) Fatal(args ...any) {
	o.text = "failed: " + fmt.Sprint(args...)
	runtime.Goexit()
}

func TestPackagesThatNPMCannotFetchAreSkipped(t *testing.T) {
	programs, folder := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(programs, "node"):            "#!/bin/sh\n",
		filepath.Join(programs, "npm"):             "#!/bin/sh\necho no answer\nexit 1\n",
		filepath.Join(folder, "package.json"):      "{}",
		filepath.Join(folder, "package-lock.json"): "{}",
	} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	name := fmt.Sprint("npm-test-", os.Getpid())
	for prove, want := range map[string]string{"": "skipped: not tried: a thing: ", "1": "failed: "} {
		t.Setenv("PURSER_PROVE", prove)
		o := &outcome{TB: t}
		dir, done := "", make(chan struct{})
		go func() {
			defer close(done)
			dir = servicetest.NPM(o, folder, name, "a thing")
		}()
		<-done
		if dir != "" || !strings.HasPrefix(o.text, want) || !strings.Contains(o.text, "no answer") {
			t.Errorf("with PURSER_PROVE=%q: %q, %q; want %q", prove, dir, o.text, want)
		}
	}
	if err := os.RemoveAll(filepath.Join("../../../.build", name)); err != nil {
		t.Error(err)
	}
}
