package rpc

import (
	"fmt"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
)

// Nobody can take what is kept for service accounts.
func TestServiceAccountsHaveStreamsThatNobodyElseCanTake(t *testing.T) {
	s := newRevocationStreams(256)
	for i := range 2 * maxStreams {
		_, _, _ = s.begin(t.Context(), "", fmt.Sprintf("address %d", i%5000))
	}
	if n := s.anybody.Open(); n != maxAnybodysStreams {
		t.Fatalf("the attacker has %d", n)
	}
	for i := range 256 {
		ctx, _, err := s.begin(t.Context(), "portfolio", "address 0")
		if err != nil || ctx.Err() != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if _, _, err := s.begin(t.Context(), "portfolio", "address 0"); errs.As(err) == nil ||
		errs.As(err).Reason != "TOO_MANY_STREAMS" {
		t.Errorf("one account has no bound: %v", err)
	}
}
