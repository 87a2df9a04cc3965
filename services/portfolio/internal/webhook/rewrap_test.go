package webhook_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/purserhq/purser/services/internal/seal"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// keyed returns a sealer under the key of a letter, that also opens what is under others.
func keyed(t *testing.T, current string, previous ...string) *seal.Sealer {
	t.Helper()
	var older [][]byte
	for _, p := range previous {
		older = append(older, []byte(strings.Repeat(p, seal.KeySize)))
	}
	s, err := seal.New([]byte(strings.Repeat(current, seal.KeySize)), older...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// After a rewrap the new key-encryption key alone opens the secrets, which are the same: receivers change nothing. The
// one before the present one is rewrapped as long as it is used. The control is the new key alone before.
func TestARewrappedSecretIsTheSameUnderTheNewKeyAlone(t *testing.T) {
	o := newOutbox(t)
	var signedBy []int
	var secrets []string
	e := o.endpointWith(t, func(body []byte, h http.Header) {
		signedBy = nil
		for i, text := range secrets {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
			if err != nil {
				t.Error(err)
			}
			hook, err := standardwebhooks.NewWebhookRaw(raw)
			if err == nil && hook.VerifyIgnoringTimestamp(body, h) == nil {
				signedBy = append(signedBy, i)
			}
		}
	}, &secrets)
	_, second, err := webhook.NewService(o, local(), o.sealer, o.now).RotateSecret(t.Context(), o.owner, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, second)
	rewrap := func(s *seal.Sealer, endpoints, lost int) {
		t.Helper()
		done, err := webhook.Rewrap(t.Context(), o, s, o.at)
		if err != nil || done != (webhook.Rewrapped{Endpoints: endpoints, Lost: lost}) {
			t.Errorf("%+v, %v", done, err)
		}
	}
	rewrap(keyed(t, "n"), 0, 1) // the control: it opens nothing
	rewrap(keyed(t, "n", "k"), 1, 0)
	rewrap(keyed(t, "n", "k"), 0, 0)
	o.sealer = keyed(t, "n")
	a := o.fire(t)
	o.deliver(t, o.deliverer())
	if d := o.delivery(t, a); !d.Delivered || len(signedBy) != 2 {
		t.Errorf("%+v, signed by %v", d, signedBy)
	}

	// The secret before is used no more, and lost is nothing.
	o.at = o.at.Add(webhook.Overlap)
	rewrap(keyed(t, "z", "n"), 1, 0)
	rewrap(keyed(t, "z"), 0, 0)
	o.sealer = keyed(t, "z")
	a = o.fire(t)
	o.deliver(t, o.deliverer())
	if d := o.delivery(t, a); !d.Delivered || len(signedBy) != 1 || signedBy[0] != 1 {
		t.Errorf("%+v, signed by %v", d, signedBy)
	}
}

// A rotation while the keys are changed waits, and is not undone.
func TestARotationDuringARewrapIsNotUndone(t *testing.T) {
	o := newOutbox(t)
	e := o.endpoint(t, status(http.StatusNoContent))
	rotated := make(chan error, 1)
	service := webhook.NewService(o, local(), keyed(t, "n", "k"), o.now)
	err := o.ChangeKeys(t.Context(), func(other *webhook.Endpoint) bool {
		go func() {
			_, _, err := service.RotateSecret(context.WithoutCancel(t.Context()), o.owner, e.ID)
			rotated <- err
		}()
		fresh, err := keyed(t, "n", "k").Rewrap(other.Secret.Key, webhook.AAD(other.Owner, other.ID))
		if err != nil || fresh == nil {
			t.Error(fresh, err)
		}
		other.Secret.Key = fresh
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-rotated; err != nil {
		t.Fatal(err)
	}
	// Both secrets, the rotated one and that before, are under the new key.
	done, err := webhook.Rewrap(t.Context(), o, keyed(t, "n"), o.at.Add(time.Minute))
	if err != nil || done != (webhook.Rewrapped{}) {
		t.Errorf("%+v, %v", done, err)
	}
}

// endpointWith is endpoint with what sees each message, and with its secret added to secrets.
func (o *outbox) endpointWith(t *testing.T, see func(body []byte, h http.Header), secrets *[]string) webhook.Endpoint {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		see(body, r.Header)
	}))
	t.Cleanup(server.Close)
	s := webhook.NewService(o, local(), o.sealer, o.now)
	e, secret, err := s.Create(t.Context(), o.owner, server.URL, uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	*secrets = append(*secrets, secret)
	return e
}
