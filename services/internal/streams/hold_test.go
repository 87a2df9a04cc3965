package streams_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/streams"
)

// The error of a stream is its own, unless another client got its place; either way its place is free again.
func TestAHeldStreamEndsWithItsErrorOrWithThatOfItsPlace(t *testing.T) {
	own := errors.New("its own")
	p := streams.NewPool(2, 2)
	_, first, err := p.Hold(t.Context(), "ada", "exports")
	if err != nil {
		t.Fatal(err)
	}
	taken, second, err := p.Hold(t.Context(), "ada", "exports")
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := p.Hold(t.Context(), "bob", "exports")
	if err != nil {
		t.Fatal(err)
	}
	<-taken.Done()
	for name, c := range map[string]struct {
		end func(*error)
		ok  func(error) bool
	}{
		"first": {first, func(err error) bool { return errors.Is(err, own) }},
		"second": {second, func(err error) bool {
			e := errs.As(err)
			return e != nil && e.Reason == "TOO_MANY_STREAMS" && strings.Contains(e.Message, "exports")
		}},
		"other": {other, func(err error) bool { return errors.Is(err, own) }},
	} {
		err := own
		if c.end(&err); !c.ok(err) {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	if n := p.Open(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
}
