package idp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/oauth2"

	"github.com/purserhq/purser/pkg/errs"
)

// away is a provider that gave no answer, or none that makes sense of a server
// that works.
func away(cause error) error {
	return errs.Unavailable("PROVIDER_UNAVAILABLE", "the provider gives no answer").Because(short(cause))
}

// invalid is an answer that proves nothing. Why stands in the log only.
func invalid(cause error) error {
	return errs.Unauthenticated("PROVIDER_ANSWER_INVALID",
		"the provider's answer can't be trusted").Because(short(cause))
}

// short is an error as it may be logged, whatever the provider sent.
func short(err error) error {
	const most = 300
	text := err.Error()
	if len(text) <= most {
		return err
	}
	return errors.New(strings.ToValidUTF8(text[:most], "") + "…")
}

// exchangeFailed tells a code that is refused from a provider that is away.
func exchangeFailed(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 {
		// Only its code: the rest is the provider's text.
		return errs.Unauthenticated("PROVIDER_REFUSED", "the provider refused the sign-in").
			Because(fmt.Errorf("token endpoint: status %d", refused.Response.StatusCode))
	}
	return away(err)
}

// askJSON sends a request with a token and reads a JSON answer.
func askJSON(client *http.Client, r *http.Request, token string, into any) error {
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return away(err)
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
