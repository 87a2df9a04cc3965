package idp

import (
	"errors"
	"fmt"

	"golang.org/x/oauth2"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
)

// unavailable is the error for a provider that did not answer, or answered like a
// server that does not work.
func unavailable(cause error) error {
	return errs.Unavailable("PROVIDER_UNAVAILABLE", "the provider gives no answer").Because(redact.Error(cause))
}

// invalid is the error for an answer that proves no identity. The cause is logged
// and not returned to the caller.
func invalid(cause error) error {
	return errs.Unauthenticated("PROVIDER_ANSWER_INVALID",
		"the provider's answer can't be trusted").Because(redact.Error(cause))
}

// exchangeError is the error for a failed code exchange: refused by the provider, or
// the provider is unavailable. secrets are those that were sent, which a provider
// may quote.
func exchangeError(err error, secrets ...string) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 {
		// Only the status: the body is the provider's text.
		return errs.Unauthenticated("PROVIDER_REFUSED", "the provider refused the sign-in").
			Because(fmt.Errorf("token endpoint: status %d", refused.Response.StatusCode))
	}
	return unavailable(redact.Error(err, secrets...))
}
