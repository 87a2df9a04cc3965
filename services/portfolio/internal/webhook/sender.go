package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/services/internal/httponly"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
)

const (
	// postTimeout bounds an attempt, from the resolution of the name to the headers of the answer.
	postTimeout = 10 * time.Second
	// maxAnswer is how much of an answer's body is read, so that its connection can be used again, and maxHeaders how
	// large its headers may be.
	maxAnswer, maxHeaders = 16 << 10, 32 << 10
)

// Sender posts messages. It is safe for concurrent use.
type Sender struct{ client *http.Client }

// NewSender returns a sender that keeps to the rules, with this configuration of TLS; nil for the usual one.
func NewSender(r Rules, config *tls.Config) *Sender {
	dialer := &net.Dialer{Timeout: postTimeout, KeepAlive: -1, Control: r.control()}
	return &Sender{client: &http.Client{
		Timeout: postTimeout,
		// A redirect is an answer that is no success: what it leads to was not checked, and isn't the owner's word.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: httponly.Transport(httpx.NoticeLost(&http.Transport{
			Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: postTimeout,
			ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxHeaders, MaxIdleConns: 100, MaxIdleConnsPerHost: 2,
			IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		})),
	}}
}

// Close closes the connections that nothing uses.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// message is the body of a webhook; alerts that are read again have the same.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	AlertID     string    `json:"alert_id"`
	RuleID      string    `json:"rule_id"`
	RuleName    string    `json:"rule_name"`
	PortfolioID string    `json:"portfolio_id"`
	Kind        string    `json:"kind"`
	TokenID     string    `json:"token_id,omitempty"`
	Limit       string    `json:"limit,omitempty"`
	Window      string    `json:"window,omitempty"`
	Figure      string    `json:"figure"`
	FireTime    time.Time `json:"fire_time"`
}

// Body returns what is posted of an alert.
func Body(a alert.Alert) ([]byte, error) {
	d := data{AlertID: a.ID.String(), RuleID: a.Rule.String(), RuleName: a.RuleName, PortfolioID: a.Portfolio.String(),
		Kind: "ALERT_KIND_" + string(a.Kind), TokenID: a.Token, Figure: a.Figure, FireTime: a.FiredAt.UTC()}
	if a.Limit != nil {
		d.Limit = a.Limit.Text('f')
	}
	if a.Window > 0 {
		d.Window = strconv.FormatInt(int64(a.Window/time.Second), 10) + "s"
	}
	body, err := json.Marshal(message{Type: "alert.fired", Timestamp: a.FiredAt.UTC(), Data: d})
	if err != nil {
		return nil, fmt.Errorf("write an alert: %w", err)
	}
	return body, nil
}

// Post posts a message with an id, signed with these secrets at a time. An error says in words for the owner why it
// was not taken: it has neither the URL nor an address in it.
func (s *Sender) Post(ctx context.Context, url, id string, at time.Time, body []byte, secrets [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is not valid")
	}
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signer, err := standardwebhooks.NewWebhookRaw(secret)
		if err != nil {
			return errors.New("the secret is not valid")
		}
		if signatures[i], err = signer.Sign(id, at, body); err != nil {
			return errors.New("the message can't be signed")
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Purser-Webhooks/1")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	resp, err := s.client.Do(req)
	if err != nil {
		return errors.New(whyFailed(err))
	}
	// What the body says doesn't matter, nor whether it ends well: the status has come.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("status %d: redirects are not followed", resp.StatusCode)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// notReachable is told of a host that is not known, and of one that nothing may be posted to.
const notReachable = "the host is not known, or its address is not allowed"

// whyFailed says why there was no answer. What a host resolves to, or how far a connection has come, is not for the
// owner: it would tell of the network that this service is in.
func whyFailed(err error) string {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP) || errors.As(err, &name) && !name.IsTimeout:
		return notReachable // whichever it is would tell which names the network of this service has
	case errors.As(err, &certificate):
		return "the certificate of the host is not valid"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer came within " + postTimeout.String()
	}
	return "the connection failed"
}
