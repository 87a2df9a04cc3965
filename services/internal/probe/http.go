// Package probe asks servers outside of the suite whether they answer as they should:
// nodes of chains, price feeds, key sets, mail servers. The services ask in the
// background what they depend on, and `make run` before it believes a setting.
//
// Promise: a question ends with its context, follows no redirect, and reads at most
// maxReplyBytes; a failure is a *dependency.Error with a reason where the cause is
// known.
//
// Limits: errors contain what the other side sent and the URL that was asked; whoever
// shows them passes them through package redact.
package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/internal/httponly"
)

// maxReplyBytes bounds what is read of a reply.
const maxReplyBytes = 1 << 20

// client of all HTTP probes. Its own transport keeps their connections apart from
// those of the program's other clients.
var client = newClient()

func newClient() *http.Client {
	transport := httpx.NoticeLost(&http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second})
	return &http.Client{Transport: httponly.Transport(transport),
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it may not redirect") }}
}

// get decodes the JSON that a URL answers with 200.
func get(ctx context.Context, url string, into any) error { return getOver(ctx, client, url, into) }

func getOver(ctx context.Context, client *http.Client, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return do(client, r, into)
}

// over is the client of all probes with a transport of the caller's; nil for its own.
func over(transport http.RoundTripper) *http.Client {
	if transport == nil {
		return client
	}
	return &http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}
}

// post sends JSON and decodes the JSON of the answer.
func post(ctx context.Context, url string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	return do(client, r, into)
}

func do(client *http.Client, r *http.Request, into any) error {
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return dependency.Failed("CREDENTIALS", fmt.Errorf("it answers with status %d", resp.StatusCode))
	}
	if resp.StatusCode != http.StatusOK {
		return dependency.Failed("HTTP_STATUS", fmt.Errorf("it answers with status %d", resp.StatusCode))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return invalid("the answer is not the JSON expected, it begins with %.40q", text)
	}
	return nil
}

// invalid is about an answer that is not what it should be.
func invalid(format string, args ...any) error {
	return dependency.Failed("INVALID_ANSWER", fmt.Errorf(format, args...))
}

// KeySet asks for a JSON Web Key Set (RFC 7517) with at least one key, over a transport; nil for
// the probes' own.
func KeySet(ctx context.Context, transport http.RoundTripper, url string) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := getOver(ctx, over(transport), url, &set); err != nil {
		return err
	}
	if len(set.Keys) == 0 {
		return invalid("the key set has no key")
	}
	return nil
}
