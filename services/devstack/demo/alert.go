package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/progress"
)

// posted is a webhook that has come.
type posted struct {
	at     time.Time
	header http.Header
	body   []byte
}

// alert makes a rule whose limit a price has passed already, and waits for its webhook, which it verifies. The rule
// and the endpoint are removed again; the alert stays.
func (d *driver) alert(progress.Note) (text string, err error) {
	positions := d.result.Valuation.GetPositions()
	if len(positions) == 0 || positions[0].GetPrice() == "" {
		return "nothing has a price", nil
	}
	top := positions[0]
	came, url, closeServer, err := receiveOne(d.ctx)
	if err != nil {
		return "", err
	}
	defer closeServer()
	hook, err := d.Alerts.CreateWebhookEndpoint(d.ctx, &portfoliov1.CreateWebhookEndpointRequest{Url: url})
	if err != nil {
		return "", err
	}
	defer func() {
		_, gone := d.Alerts.DeleteWebhookEndpoint(d.ctx,
			&portfoliov1.DeleteWebhookEndpointRequest{EndpointId: hook.GetEndpoint().GetEndpointId()})
		err = errors.Join(err, gone)
	}()
	begun := time.Now()
	rule, err := d.Alerts.CreateAlertRule(d.ctx, &portfoliov1.CreateAlertRuleRequest{
		Name: top.GetSymbol() + " has a price", Kind: portfoliov1.AlertKind_ALERT_KIND_PRICE_ABOVE,
		TokenId: top.GetTokenId(), Limit: "0.000001"})
	if err != nil {
		return "", err
	}
	defer func() {
		_, gone := d.Alerts.DeleteAlertRule(d.ctx,
			&portfoliov1.DeleteAlertRuleRequest{RuleId: rule.GetRule().GetRuleId()})
		err = errors.Join(err, gone)
	}()
	ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("no webhook came within %s: %w", callTimeout, ctx.Err())
	case p := <-came:
		return verify(hook.GetSecret(), rule.GetRule(), p, begun)
	}
}

// verify says what a webhook has, if it is that of a rule.
func verify(secret string, rule *portfoliov1.AlertRule, p posted, begun time.Time) (string, error) {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return "", err
	}
	if err := verifier.Verify(p.body, p.header); err != nil {
		return "", err
	}
	var m struct {
		Data struct {
			RuleID   string `json:"rule_id"`
			RuleName string `json:"rule_name"`
			Figure   string `json:"figure"`
		} `json:"data"`
	}
	if err := json.Unmarshal(p.body, &m); err != nil {
		return "", fmt.Errorf("read a webhook: %w", err)
	}
	if m.Data.RuleID != rule.GetRuleId() {
		return "", fmt.Errorf("the webhook is of the rule %s, not of %s", m.Data.RuleID, rule.GetRuleId())
	}
	return fmt.Sprintf("%q at %s; its webhook came %d ms after the rule was made, and its signature is right",
		m.Data.RuleName, m.Data.Figure, p.at.Sub(begun).Milliseconds()), nil
}

// receiveOne serves a URL of this machine, and returns what sends the first webhook that comes there.
func receiveOne(ctx context.Context) (came <-chan posted, url string, closeServer func(), err error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, fmt.Errorf("listen for a webhook: %w", err)
	}
	first := make(chan posted, 1)
	server := &http.Server{ReadHeaderTimeout: callTimeout, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			select {
			case first <- posted{time.Now(), r.Header, body}:
			default: // another attempt
			}
			w.WriteHeader(http.StatusNoContent)
		})}
	go func() { _ = server.Serve(listener) }() // ends with Shutdown
	return first, "http://" + listener.Addr().String() + "/", func() {
		// The answer is still under way.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ending)
	}, nil
}
