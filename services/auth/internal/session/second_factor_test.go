package session_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

// factor is a second factor whose code is 123456.
type factor struct{}

func (factor) Check(_ context.Context, _ uuid.UUID, code string) ([]string, error) {
	switch code {
	case "123456":
		return []string{"otp"}, nil
	case "":
		return nil, errs.Unauthenticated("TOTP_REQUIRED", "a code is needed")
	}
	return nil, errs.Unauthenticated("TOTP_INVALID", "the code is wrong")
}

func TestSecondFactorIsAskedForAfterThePassword(t *testing.T) {
	f := newFixture(t)
	f.SecondFactor = factor{}
	for code, reason := range map[string]string{"": "TOTP_REQUIRED", "000000": "TOTP_INVALID"} {
		if _, err := f.Login(t.Context(), email, password, code); errs.As(err) == nil ||
			errs.As(err).Reason != reason {
			t.Errorf("the code %q is answered %v", code, err)
		}
	}
	if _, err := f.Login(t.Context(), email, "not the password",
		"123456"); errs.As(err).Reason != "INVALID_CREDENTIALS" {
		t.Errorf("a wrong password is answered %v", err)
	}
	if _, err := f.Login(t.Context(), email, password, "123456"); err != nil {
		t.Fatal(err)
	}
	list, err := f.List(t.Context(), f.user, uuid.Nil, 10)
	if err != nil || len(list) != 1 || strings.Join(list[0].Methods, " ") != "pwd otp" {
		t.Errorf("the session is %+v, %v", list, err)
	}
}
