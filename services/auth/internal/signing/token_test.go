package signing_test

import (
	"errors"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
)

func TestATokenVerifiesWithPursersVerifier(t *testing.T) {
	r, _, c := ready(t)
	want := claims()
	token, expires, err := r.Sign(want, 15*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := authn.NewVerifier(r, authn.Options{Issuer: issuer, Now: c.now}).Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if caller.UserID.String() != want.Subject || caller.SessionID.String() != want.SessionID ||
		!caller.May("wallet:read") {
		t.Errorf("the caller is %+v", caller)
	}
	if !caller.ExpiresAt.Equal(expires) || !expires.Equal(c.at.Add(15*time.Minute)) {
		t.Errorf("expires %s, the caller %s", expires, caller.ExpiresAt)
	}
	if _, err := r.Key(t.Context(), "made up"); !errors.Is(err, authn.ErrUnknownKey) {
		t.Errorf("a kid that was made up gives %v", err)
	}
}

func TestTheTokenNamesItsIssuerAndTimesWhateverTheCallerSays(t *testing.T) {
	r, _, c := ready(t)
	lie := claims()
	lie.Issuer, lie.Audience = "https://other.example", jwt.ClaimStrings{"other"}
	lie.ExpiresAt = jwt.NewNumericDate(c.at.Add(1000 * time.Hour))
	token, _, err := r.Sign(lie, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authn.NewVerifier(r, authn.Options{Issuer: issuer, Now: c.now}).Verify(t.Context(),
		token); err != nil {
		t.Errorf("the token isn't ours: %v", err)
	}
	late := func() time.Time { return c.at.Add(time.Minute + 31*time.Second) }
	if _, err := authn.NewVerifier(r, authn.Options{Issuer: issuer, Now: late}).Verify(t.Context(),
		token); reason(err) != "TOKEN_EXPIRED" {
		t.Errorf("past its minute and the leeway: %v", err)
	}
}
