package password_test

import (
	"math"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/purserhq/purser/services/auth/internal/password"
)

// old is a hash of secret by bcrypt, with its version.
func old(t testing.TB, version string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), cost)
	if err != nil {
		t.Fatal(err)
	}
	return version + strings.TrimPrefix(string(hash), "$2a")
}

func TestHashesOfBcryptAreCheckedAndOutdated(t *testing.T) {
	h := newHasher(t, 1)
	for _, version := range []string{"$2a", "$2b", "$2y"} {
		hash := old(t, version, bcrypt.MinCost)
		if ok, err := h.Matches(t.Context(), secret, hash); err != nil || !ok {
			t.Errorf("%s: %v, %v", version, ok, err)
		}
		if ok, err := h.Matches(t.Context(), secret+"x", hash); err != nil || ok {
			t.Errorf("%s takes another password: %v", version, err)
		}
		if !h.NeedsRehash(hash) {
			t.Errorf("%s is not outdated", version)
		}
	}
	fresh, err := h.Hash(t.Context(), secret)
	if err != nil || h.NeedsRehash(fresh) || h.NeedsRehash("") {
		t.Error("a hash as we make it is outdated", err)
	}
	for _, weaker := range []string{strings.Replace(fresh, "t=2", "t=1", 1),
		strings.Replace(fresh, "m=19456", "m=9728", 1)} {
		if !h.NeedsRehash(weaker) {
			t.Errorf("%s is not outdated", weaker)
		}
	}
}

// Or one row could take all memory or time, or end the process.
func TestAHashOutOfBoundsIsRefusedBeforeItIsComputed(t *testing.T) {
	h := newHasher(t, 1)
	fresh, err := h.Hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(from, to string) string { return strings.Replace(fresh, from, to, 1) }
	for _, hash := range []string{
		"x", "$argon2id$", "$2a$", "$2a$04$", replaced("$argon2id", "$argon2i"), replaced("v=19", "v=16"),
		replaced("m=19456", "m=4194304"), replaced("m=19456", "m=0"), replaced("m=19456", "m=7"),
		replaced("t=2", "t=0"), replaced("t=2", "t=4294967295"),
		replaced("p=1", "p=0"), replaced("p=1", "p=255"),
		fresh[:strings.LastIndex(fresh, "$")+1] + strings.Repeat("A", 400),
		fresh[:strings.LastIndex(fresh, "$")+1], "$2a$31$" + strings.Repeat("a", 53), old(t, "$2x", bcrypt.MinCost),
	} {
		if ok, err := h.Matches(t.Context(), secret, hash); err == nil || ok {
			t.Errorf("%q: %v, %v", hash, ok, err)
		}
		if h.NeedsRehash(hash) {
			t.Errorf("%q is to be replaced", hash)
		}
	}
}

func FuzzHashesAreReadWithoutPanic(f *testing.F) {
	for _, seed := range []string{
		"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$",
		"$argon2id$v=19$m=8,t=0,p=0$c2FsdHNhbHQ$aGFzaGhhc2g", "$argon2i$v=19$m=8,t=1,p=1$$",
		"$2a$04$" + strings.Repeat("a", 53), "$2y$99$", "", "$$$$$", "\x00",
		"$argon2id$v=19$m=-1,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "$argon2id$v=19$m=8,t=1,p=256$c2FsdHNhbHQ$aGFzaGhhc2g",
	} {
		f.Add(seed)
	}
	hasher := newHasher(f, 1)
	f.Fuzz(func(t *testing.T, hash string) {
		cheap, ok := password.Read(hash)
		if !ok || !cheap {
			return
		}
		if _, err := hasher.Matches(t.Context(), "a password", hash); err != nil {
			t.Errorf("%q was read and can't be compared with: %v", hash, err)
		}
	})
}

func TestHashesAreSizedToTheMemory(t *testing.T) {
	const mib = 1 << 20
	files := map[string]string{}
	read := func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	}
	for _, tc := range []struct {
		name    string
		goLimit int64
		files   map[string]string
		want    int
	}{
		{"no limit is one less than the processors", math.MaxInt64, nil, 15},
		{"GOMEMLIMIT", 400 * mib, nil, 5},
		{"a container of cgroups v2", math.MaxInt64, map[string]string{"/sys/fs/cgroup/memory.max": "209715200\n"}, 2},
		{"one without a limit", math.MaxInt64, map[string]string{"/sys/fs/cgroup/memory.max": "max\n"}, 15},
		{"a container of cgroups v1", math.MaxInt64,
			map[string]string{"/sys/fs/cgroup/memory/memory.limit_in_bytes": "314572800"}, 3},
		{"a small machine", math.MaxInt64, map[string]string{"/proc/meminfo": "MemFree: 1 kB\nMemTotal:     524288 " +
			"kB\n"}, 6},
		{"the least of them counts", 400 * mib,
			map[string]string{"/proc/meminfo": "MemTotal: 524288 kB", "/sys/fs/cgroup/memory.max": "209715200"}, 2},
		{"never none", 1, nil, 1},
		{"nonsense limits nothing", math.MaxInt64,
			map[string]string{"/proc/meminfo": "MemTotal: -5 kB", "/sys/fs/cgroup/memory.max": "-1"}, 15},
	} {
		files = tc.files
		if got := password.SizedTo(tc.goLimit, read, 16); got != tc.want {
			t.Errorf("%s: %d, not %d", tc.name, got, tc.want)
		}
	}
	for processors, want := range map[int]int{1: 1, 2: 1, 4: 3} {
		files = nil
		if got := password.SizedTo(math.MaxInt64, read, processors); got != want {
			t.Errorf("%d processors: %d, not %d", processors, got, want)
		}
	}
	if password.MaxConcurrent() < 1 {
		t.Error("none on this machine")
	}
}
