package idp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
)

// away is a provider that gave no answer, or none that makes sense of a server
// that works.
func away(cause error) error {
	return errs.Unavailable("PROVIDER_UNAVAILABLE", "the provider gives no answer").Because(redact.Error(cause))
}

// invalid is an answer that proves nothing. Why stands in the log only.
func invalid(cause error) error {
	return errs.Unauthenticated("PROVIDER_ANSWER_INVALID",
		"the provider's answer can't be trusted").Because(redact.Error(cause))
}

// exchangeFailed tells a code that is refused from a provider that is away. The
// secrets are those that were sent, which a provider may quote.
func exchangeFailed(err error, secrets ...string) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 {
		// Only its code: the rest is the provider's text.
		return errs.Unauthenticated("PROVIDER_REFUSED", "the provider refused the sign-in").
			Because(fmt.Errorf("token endpoint: status %d", refused.Response.StatusCode))
	}
	return away(redact.Error(err, secrets...))
}

// askJSON sends a request with a token and reads a JSON answer.
func askJSON(client *http.Client, r *http.Request, token string, into any) error {
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return away(redact.Error(err, token))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return away(err)
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return away(fmt.Errorf("status %d", resp.StatusCode))
	case resp.StatusCode != http.StatusOK:
		return invalid(fmt.Errorf("status %d", resp.StatusCode))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return invalid(err)
	}
	return nil
}
