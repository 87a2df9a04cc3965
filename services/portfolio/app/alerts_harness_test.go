package app_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// webhookSettings allow webhooks to this machine.
func webhookSettings(more ...string) []string {
	return append([]string{"PURSER_WEBHOOKS_KEK=" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))),
		"PURSER_WEBHOOKS_ALLOW_HTTP=true", "PURSER_WEBHOOKS_ALLOW_ADDRESSES=127.0.0.0/8",
		// What a test waits for it asks for without a pause.
		"PURSER_GRPC_RATE_PER_SECOND=10000", "PURSER_GRPC_BURST=10000"}, more...)
}

// receiver takes webhooks, and verifies them with the library of Standard Webhooks. It is safe for concurrent use.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	secrets  []string
	ids      []string            // of the messages that were verified, in order
	bodies   map[string][]string // by id
	headers  []http.Header
	faults   []error
	answer   http.HandlerFunc // of what was verified; nil for 204
	attempts int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{bodies: map[string][]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

// with changes r under its lock.
func (r *receiver) with(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	r.attempts++
	verified := errors.New("no secret")
	for _, secret := range r.secrets {
		hook, newErr := standardwebhooks.NewWebhook(secret)
		if verified = errors.Join(newErr, hook.Verify(body, req.Header)); verified == nil {
			break
		}
	}
	if err := errors.Join(err, verified); err != nil && len(r.secrets) > 0 {
		r.faults = append(r.faults, err)
	}
	id := req.Header.Get("Webhook-Id")
	r.ids, r.bodies[id] = append(r.ids, id), append(r.bodies[id], string(body))
	r.headers = append(r.headers, req.Header)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, req)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// distinct returns the ids of what has come, each once.
func (r *receiver) distinct() (ids []string) {
	r.with(func() { ids = slices.Compact(slices.Sorted(slices.Values(r.ids))) })
	return ids
}

// check fails the test for messages that were not verified, and for those of one id that differ.
func (r *receiver) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) > 0 {
		t.Errorf("messages were not verified: %v", errors.Join(r.faults...))
	}
	for id, bodies := range r.bodies {
		var m struct {
			Type string `json:"type"`
			Data struct {
				AlertID string `json:"alert_id"`
			} `json:"data"`
		}
		err := json.Unmarshal([]byte(bodies[0]), &m)
		if err != nil || m.Data.AlertID != id || m.Type != "alert.fired" {
			t.Errorf("the message %s has the body %s: %v", id, bodies[0], err)
		}
		if len(slices.Compact(slices.Clone(bodies))) > 1 {
			t.Errorf("the message %s came with the bodies %q", id, bodies)
		}
	}
}

// endpoint adds an endpoint of the caller at a receiver.
func (s service) endpoint(ctx context.Context, t *testing.T, r *receiver, path string) *portfoliov1.WebhookEndpoint {
	t.Helper()
	made, err := s.alerts.CreateWebhookEndpoint(ctx, &portfoliov1.CreateWebhookEndpointRequest{Url: r.URL + path})
	if err != nil {
		t.Fatal(err)
	}
	r.with(func() { r.secrets = append(r.secrets, made.GetSecret()) })
	return made.GetEndpoint()
}

// rule makes a rule of the caller.
func (s service) rule(ctx context.Context, t *testing.T,
	r *portfoliov1.CreateAlertRuleRequest) *portfoliov1.AlertRule {
	t.Helper()
	if r.Name == "" {
		r.Name = "rule"
	}
	made, err := s.alerts.CreateAlertRule(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return made.GetRule()
}

// fired returns the alerts of the caller, oldest first.
func (s service) fired(ctx context.Context, t *testing.T) []*portfoliov1.Alert {
	t.Helper()
	resp, err := s.alerts.ListAlerts(ctx, &portfoliov1.ListAlertsRequest{PageSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(resp.GetAlerts())
	return resp.GetAlerts()
}

// alerting runs two replicas that look at rules each second, with a user who has an endpoint.
func alerting(t *testing.T, more ...string) (a, b service, w *liveWallet, ctx context.Context, user string,
	r *receiver) {
	t.Helper()
	a, b, w = live(t, webhookSettings(append([]string{"PURSER_ALERTS_EVERY=1s"}, more...)...)...)
	id := uuid.New()
	ctx, _ = a.as(t, id, "portfolio:read", "portfolio:write", "wallet:read")
	r = newReceiver(t)
	a.endpoint(ctx, t, r, "/hook?key=of-the-owner")
	return a, b, w, ctx, id.String(), r
}
