package password_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/password"
)

func inProcess(t *testing.T, log *testkit.LogBuffer) *password.Hasher {
	t.Helper()
	h := password.New(2, func(context.Context) string { return "" })
	h.UseProcess(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(h.Close)
	return h
}

// whileBusy asks again as long as the answer is that all slots were taken for the time that a call waits, as on a
// machine that is busy with other tests, up to a minute.
func whileBusy[T any](ask func() (T, error)) (answer T, err error) {
	for begun := time.Now(); ; {
		answer, err = ask()
		if e := errs.As(err); e == nil || e.Reason != "PASSWORD_HASHING_BUSY" || time.Since(begun) > time.Minute {
			return answer, err
		}
	}
}

func TestAProcessOfLowPriorityHashes(t *testing.T) {
	t.Setenv("PURSER_KEK", "not for the process")
	h := inProcess(t, &testkit.LogBuffer{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			typed := fmt.Sprint("correct horse ", i)
			hash, err := whileBusy(func() (string, error) { return h.Hash(t.Context(), typed) })
			if err != nil {
				t.Error(err)
				return
			}
			for tried, want := range map[string]bool{typed: true, "another": false} {
				ok, err := whileBusy(func() (bool, error) { return h.Matches(t.Context(), tried, hash) })
				if err != nil || ok != want {
					t.Errorf("%s: %t, %v", tried, ok, err)
				}
			}
		})
	}
	all.Wait()
	// One that was made elsewhere.
	if ok, err := h.Matches(t.Context(), secret, old(t, "$2b", bcrypt.MinCost)); err != nil || !ok {
		t.Errorf("a hash of bcrypt: %t, %v", ok, err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	proc := fmt.Sprintf("/proc/%d/", h.WorkerPid())
	tasks, err := os.ReadDir(proc + "task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(proc + "task/" + task.Name() + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		if fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")"):])); fields[17] != "10" {
			t.Errorf("a thread has the nice value %s", fields[17])
		}
	}
	if environ, err := os.ReadFile(proc + "environ"); err != nil || strings.Contains(string(environ), "KEK") {
		t.Errorf("its environment is %q, %v", environ, err)
	}
}

func TestAProcessThatDiesIsStartedAgain(t *testing.T) {
	log := &testkit.LogBuffer{}
	h := inProcess(t, log)
	hash, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	first := h.WorkerPid()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if ok, err := h.Matches(t.Context(), "correct horse battery", hash); err != nil || !ok {
			t.Errorf("%t, %v", ok, err)
		}
	}
	if second := h.WorkerPid(); second == first || second == 0 {
		t.Errorf("the process is %d, as before %d", second, first)
	}
	h.Close()
	if _, err := h.Hash(t.Context(), "correct horse battery"); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("after the end: %v", err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return h.WorkerPid() == 0 })
}

func TestWithoutAProcessTheServiceHashesItself(t *testing.T) {
	log := &testkit.LogBuffer{}
	h := inProcess(t, log)
	h.UseProgram("/nonexistent")
	hash, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.Matches(t.Context(), "correct horse battery", hash); err != nil || !ok {
		t.Errorf("%t, %v", ok, err)
	}
	if n := strings.Count(log.String(), "passwords are hashed in the service itself"); n != 1 {
		t.Errorf("the warning is logged %d times: %s", n, log)
	}
}
