package password_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/password"
)

func TestCommonPasswordsAreKnownAndOthersAreNot(t *testing.T) {
	b, err := password.NewBreaches("")
	if err != nil {
		t.Fatal(err)
	}
	for _, common := range []string{"password", "12345678", "PassWord1", "qwertyuiop", "123456789123456789",
		"1qaz2wsx3edc4rfv"} {
		if !b.Known(t.Context(), common) {
			t.Errorf("%s is not known", common)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	wrong, n := 0, testkit.Size(50_000, 1_000_000)
	for range n {
		if b.Known(t.Context(), fmt.Sprintf("%x", random.Uint64())+"-horse-battery") {
			wrong++
		}
	}
	testkit.Figure(t, "%d of %d random passwords are taken for common ones", wrong, n)
	if wrong > n/20_000 {
		t.Errorf("%d of %d are taken for common ones", wrong, n)
	}
}

func TestTheAPIOfBreachesIsAskedByAPrefixAndFailsOpen(t *testing.T) {
	const known = "a horse of another stable"
	var asked []string
	answer := func(http.ResponseWriter, string) {}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if r.Header.Get("Add-Padding") != "true" {
			t.Error("the length of the answer tells")
		}
		answer(w, strings.TrimPrefix(r.URL.Path, "/range/"))
	}))
	defer api.Close()
	b, err := password.NewBreaches(api.URL + "/range/")
	if err != nil {
		t.Fatal(err)
	}
	prefix, suffix := password.Digest(known)
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   bool
	}{
		"it is among them": {func(w http.ResponseWriter) { fmt.Fprintf(w, "0000:1\r\n%s:7\r\n", suffix) }, true},
		"in small letters": {func(w http.ResponseWriter) {
			fmt.Fprintf(w, "%s:7", strings.ToLower(suffix))
		}, true},
		"it is padding":        {func(w http.ResponseWriter) { fmt.Fprintf(w, "%s:0\r\n", suffix) }, false},
		"it is not among them": {func(w http.ResponseWriter) { fmt.Fprintf(w, "0000:1\r\n") }, false},
		"nothing":              {func(http.ResponseWriter) {}, false},
		"a failure that has it": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "%s:7", suffix)
		}, false},
		"a line without an end": {func(w http.ResponseWriter) { fmt.Fprint(w, strings.Repeat("x", 200_000)) },
			false},
		"more than it should have": {func(w http.ResponseWriter) {
			fmt.Fprint(w, strings.Repeat("0000:1\r\n", 300_000),
				suffix, ":7")
		}, false},
	} {
		answer = func(w http.ResponseWriter, _ string) { tc.answer(w) }
		if got := b.Known(t.Context(), known); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, path := range asked {
		if path != "/range/"+prefix {
			t.Errorf("asked for %s", path)
		}
	}
	n := len(asked)
	if !b.Known(t.Context(), "password123") || len(asked) != n {
		t.Error("the API is asked about what the list has")
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	api.Close()
	if b.Known(ended, known) || b.Known(t.Context(), known) {
		t.Error("an API that is away knows a password")
	}
}
