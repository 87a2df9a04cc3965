package password

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" // what the API is asked by; nothing is protected by it
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bits-and-blooms/bloom/v3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

const (
	// patience with the API: a caller waits for it.
	patience = time.Second
	// mostAnswer of the API in bytes; a range has some 40 kB.
	mostAnswer = 1 << 20
)

// common is a Bloom filter of the passwords of at least 8 characters among the
// million most common of ten million that were published, in lower case: see
// filter/main.go. It takes one in 100,000 others for one of them.
//
//go:embed common.bloom
var common []byte

// Breaches knows passwords that attackers try first. It is safe for concurrent
// use.
type Breaches struct {
	common *bloom.BloomFilter
	api    string
	client *http.Client
	failed metric.Int64Counter
}

// NewBreaches reads the filter. api is the base URL of a service that knows
// more, asked by the first five digits of the password's SHA-1 (the range API
// of Have I Been Pwned); "" for none.
func NewBreaches(api string) (*Breaches, error) {
	b := &Breaches{common: &bloom.BloomFilter{}, api: strings.TrimRight(api, "/"),
		client: &http.Client{Timeout: patience}}
	if _, err := b.common.ReadFrom(bytes.NewReader(common)); err != nil {
		return nil, fmt.Errorf("filter of common passwords: %w", err)
	}
	// An instrument that can't be made is a no-op one.
	b.failed, _ = otel.Meter("github.com/purserhq/purser/services/auth/password").Int64Counter(
		"breached_api_failures_total",
		metric.WithDescription("Passwords that the API of breaches gave no answer to."))
	return b, nil
}

// Known reports whether a password is known, in whatever case. An API that
// doesn't answer knows nothing.
func (b *Breaches) Known(ctx context.Context, password string) bool {
	if b.common.TestString(strings.ToLower(password)) {
		return true
	}
	if b.api == "" {
		return false
	}
	known, err := b.ask(ctx, password)
	if err != nil {
		b.failed.Add(ctx, 1)
	}
	return known
}

func (b *Breaches) ask(ctx context.Context, password string) (bool, error) {
	prefix, suffix := digest(password)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.api+"/"+prefix, http.NoBody)
	if err != nil {
		return false, err
	}
	req.Header.Set("Add-Padding", "true") // or the answer's length would tell
	resp, err := b.client.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, mostAnswer))
	for lines.Scan() {
		rest, count, _ := strings.Cut(lines.Text(), ":")
		if strings.EqualFold(rest, suffix) && strings.TrimSpace(count) != "0" { // padding counts 0
			return true, nil
		}
	}
	return false, lines.Err()
}

// digest is the SHA-1 of a password in hexadecimal: what the API is asked by,
// and the rest.
func digest(password string) (prefix, rest string) {
	sum := sha1.Sum([]byte(password))
	all := strings.ToUpper(hex.EncodeToString(sum[:]))
	return all[:5], all[5:]
}
