package errs_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

func TestAKindIsFoundThroughWrapping(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		kind errs.Kind
	}{
		"a typed error is of its kind": {errs.NotFound("wallet"), errs.KindNotFound},
		"a wrapped one too": {fmt.Errorf("read: %w", errs.Conflict("LOST", "again")),
			errs.KindConflict},
		"a joined one too": {errors.Join(errors.New("x"), errs.Exhausted("FULL", "full")),
			errs.KindExhausted},
		"an error that nobody classified is ours": {errors.New("boom"), errs.KindInternal},
		"the outermost classification is the valid": {errs.Unavailable("AWAY", "away").Because(errs.NotFound("x")),
			errs.KindUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := errs.KindOf(tt.err); got != tt.kind {
				t.Errorf("kind %v, want %v", got, tt.kind)
			}
		})
	}
}

func TestIsAsksForAClassifiedError(t *testing.T) {
	if errs.Is(errors.New("boom"), errs.KindInternal) {
		t.Error("an unclassified error passed for a classified one")
	}
	if errs.Is(nil, errs.KindInternal) || errs.As(nil) != nil {
		t.Error("nil passed for an error")
	}
	if !errs.Is(errs.Internal(errors.New("boom")), errs.KindInternal) {
		t.Error("a classified internal error was not recognised")
	}
}

func TestBecauseAndAfterLeaveTheOriginalAlone(t *testing.T) {
	cause := errors.New("refused")
	plain := errs.Unavailable("AWAY", "away")
	told := plain.Because(cause).After(time.Minute)
	if plain.RetryAfter != time.Second || errors.Is(plain, cause) {
		t.Errorf("the original changed: %+v", plain)
	}
	if told.RetryAfter != time.Minute || !errors.Is(told, cause) {
		t.Errorf("the copy has retry %s and cause %v", told.RetryAfter, told.Unwrap())
	}
	if got, want := told.Error(), "AWAY: away: refused"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	seen := map[string]bool{}
	for k := errs.KindInternal; k <= errs.KindCanceled; k++ {
		if s := k.String(); s == "" || seen[s] {
			t.Errorf("kind %d is named %q", int(k), s)
		} else {
			seen[s] = true
		}
	}
	if got := errs.Kind(-1).String() + errs.Kind(99).String(); got != "kind(-1)kind(99)" {
		t.Errorf("kinds that don't exist are named %q", got)
	}
}
