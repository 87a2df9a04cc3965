package authn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/errs"
)

// checkForm returns an error for a text that can't be an access token, for the
// person who sent it.
func checkForm(token string) error {
	first, last := token[0], token[len(token)-1]
	switch {
	case strings.ContainsRune("\"'`<", rune(first)), strings.ContainsRune("\"'`>", rune(last)):
		return newFault("it stands in quotes or brackets; send it without them")
	case len(token) > len("bearer ") && strings.EqualFold(token[:len("bearer ")], "bearer "):
		return newFault(`it begins with "Bearer" a second time; send that once`)
	case strings.ContainsAny(token, " \t\r\n"): // the base64 decoder skips line breaks
		return newFault("it contains white space or a line break, perhaps from copying")
	case strings.Count(token, ".") != 2:
		return newFault("it is no JWT, which has three parts divided by dots, got %d: a refresh token is exchanged "+
			"with SessionService.Refresh, an API key with ApiKeyService.ExchangeApiKey, a service account's secret "+
			"with SessionService.IssueServiceAccountToken", 1+strings.Count(token, "."))
	}
	return nil
}

// TokenRevoked is the answer to a token that has not expired and is not accepted any
// more: errs.Unauthenticated (TOKEN_REVOKED).
func TokenRevoked() error {
	return errs.Unauthenticated("TOKEN_REVOKED",
		"the access token was revoked: its session, user or signing key has ended; refresh it, or sign in again")
}

// PermissionTaken is the answer to a caller whose token carries a permission that
// they don't hold any more: errs.PermissionDenied (PERMISSION_MISSING).
func PermissionTaken(permission string) error {
	return errs.PermissionDenied("PERMISSION_MISSING", fmt.Sprintf("this method needs the permission %s, which was "+
		"taken from the caller after the access token was issued", permission)).With("permission", permission)
}

// refusal returns the answer to a token that err is about. What it says of the
// claims c is what the caller sent; nothing of it was verified.
func (v *Verifier) refusal(err error, c *Claims) error {
	if errors.Is(err, errRevoked) {
		return TokenRevoked()
	}
	if e := errs.As(err); e != nil && e.Kind == errs.KindUnavailable {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		at := ""
		if c != nil && c.ExpiresAt != nil {
			at = fmt.Sprintf(" at %s (now %s)", clock(c.ExpiresAt.Time), clock(v.now()))
		}
		return errs.Unauthenticated("TOKEN_EXPIRED", "the access token has expired"+at+
			"; get another one with SessionService.Refresh, or sign in").Because(err)
	}
	return invalid(v.fault(err, c))
}

// notIssued says of a token that its proof is wrong, whichever part of it: who
// forges tokens isn't told how far they got.
const notIssued = "it is not as this deployment issues them: it was cut or changed on the way, is another " +
	"deployment's, or is older than this one's keys"

// fault says of a token that is not valid what is wrong with it, as far as its
// holder sees it too: the claims and the type.
func (v *Verifier) fault(err error, c *Claims) error {
	var own *fault
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return &fault{fmt.Sprintf("its issuer (iss) must be %q, %s", v.issuer, errs.Given(c.Issuer)), err}
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &fault{fmt.Sprintf("its audience (aud) must have %q, %s", Audience,
			errs.Given(strings.Join(c.Audience, " "))), err}
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued), errors.Is(err, jwt.ErrTokenNotValidYet):
		return &fault{fmt.Sprintf("it is of a later time than now, %s; compare the clocks", clock(v.now())), err}
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return &fault{"it lacks a claim that is required: iss, aud, exp", err}
	}
	return &fault{notIssued, err}
}

// fault is an error with a text for the caller.
type fault struct {
	text  string
	cause error
}

func newFault(format string, args ...any) error { return &fault{text: fmt.Sprintf(format, args...)} }

func (f *fault) Error() string { return f.text }

// Unwrap returns the cause.
func (f *fault) Unwrap() error { return f.cause }

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// invalid is the answer to a token that is not valid for this reason, which it says.
func invalid(reason error) error {
	return errs.Unauthenticated("TOKEN_INVALID", "the access token is not valid: "+reason.Error()).Because(reason)
}
