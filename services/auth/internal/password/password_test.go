package password_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/password"
)

const secret = "correct horse battery"

func newHasher(t testing.TB, slotCount int) *password.Hasher {
	t.Helper()
	return password.New(slotCount, func(context.Context) string { return "" })
}

func TestAHashIsAPHCStringWithItsParameters(t *testing.T) {
	h := newHasher(t, 1)
	first, err := h.Hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	// 16 bytes of salt and 32 of hash, base64 without padding.
	form := regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`)
	if !form.MatchString(first) {
		t.Errorf("the hash reads %s", first)
	}
	second, err := h.Hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two hashes of one password have one salt")
	}
}

func TestMatches(t *testing.T) {
	h := newHasher(t, 1)
	hash, err := h.Hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, password, hash string
		want                 bool
	}{
		{"the password matches", secret, hash, true},
		{"another case doesn't", strings.ToUpper(secret), hash, false},
		{"a trailing space doesn't", secret + " ", hash, false},
		{"an empty password doesn't", "", hash, false},
		{"nothing matches no account", secret, "", false},
		{"an empty password matches no account", "", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := h.Matches(t.Context(), tc.password, tc.hash); err != nil || got != tc.want {
				t.Errorf("Matches = %v, %v", got, err)
			}
		})
	}
}

func TestOverTheLimitCallersAreToldToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(t, 3)
		if !h.AcquireSlots(3) {
			t.Fatal("no slots to take")
		}
		begun := time.Now()
		_, err := h.Hash(t.Context(), secret)
		busy := errs.As(err)
		if busy == nil || busy.Kind != errs.KindExhausted || busy.Reason != "PASSWORD_HASHING_BUSY" ||
			busy.RetryAfter < time.Second {
			t.Errorf("answered %v", err)
		}
		if waited := time.Since(begun); waited != 5*time.Second {
			t.Errorf("after %s", waited)
		}
		gone, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := h.Matches(gone, secret, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller that had gone was answered %v", err)
		}
		h.ReleaseSlots(1)
		if _, err := h.Hash(t.Context(), secret); err != nil {
			t.Errorf("with a turn free: %v", err)
		}
		if !h.AcquireSlots(1) {
			t.Error("a hash that has ended keeps its turn")
		}
	})
}
