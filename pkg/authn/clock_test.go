package authn_test

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// A verifier whose clock is ten minutes slow refuses new tokens, and one whose clock is as fast refuses them ten
// minutes early. Neither accepts one that it shouldn't for longer than it is wrong.
func TestAVerifierWithAWrongClockIsWrongByThatMuch(t *testing.T) {
	signers, ring := newSigners(t)
	for kid, s := range signers {
		if s.method != jwt.SigningMethodEdDSA {
			continue
		}
		token := sign(t, s.method, s.private, kid, claims(noon, nil), nil) // for 15 minutes
		for off, want := range map[time.Duration]struct{ from, until time.Duration }{
			0:                 {0, 15 * time.Minute},
			10 * time.Minute:  {0, 5 * time.Minute},
			-10 * time.Minute: {10*time.Minute - authn.Leeway, 25 * time.Minute},
		} {
			for at := time.Duration(0); at < 30*time.Minute; at += time.Minute {
				v := authn.NewVerifier(ring, authn.Options{Issuer: issuer,
					Now: func() time.Time { return noon.Add(at + off) }})
				_, err := v.Verify(t.Context(), token)
				if good := at >= want.from && at < want.until+authn.Leeway; (err == nil) != good {
					t.Errorf("clock off by %s, %s after the issue: %v", off, at, err)
				}
				if err != nil && !errs.Is(err, errs.KindUnauthenticated) {
					t.Errorf("clock off by %s, %s after the issue: %v, want UNAUTHENTICATED", off, at, err)
				}
			}
		}
	}
}
