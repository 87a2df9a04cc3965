package password

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" // the API's protocol; it protects nothing here
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

	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/services/internal/httponly"
)

const (
	// apiTimeout bounds a query of the API, which a sign-up waits for.
	apiTimeout = time.Second
	// maxResponseBytes bounds a response of the API; a range has about 40 kB.
	maxResponseBytes = 1 << 20
)

// common is a Bloom filter of the passwords of at least 8 characters among the
// million most common of ten million published ones, in lower case; see
// filter/main.go. Its rate of false positives is 1 in 100,000.
//
//go:embed common.bloom
var common []byte

// Breaches is the set of passwords that attackers try first. It is safe for
// concurrent use.
type Breaches struct {
	common *bloom.BloomFilter
	api    string
	client *http.Client
	failed metric.Int64Counter
}

// NewBreaches loads the embedded filter. api is the base URL of a service with the
// range API of Have I Been Pwned, which is queried by the first five digits of the
// password's SHA-1; "" for none.
func NewBreaches(api string) (*Breaches, error) {
	b := &Breaches{common: &bloom.BloomFilter{}, api: strings.TrimRight(api, "/"),
		client: &http.Client{Timeout: apiTimeout, Transport: httponly.Transport(httpx.Default())}}
	if _, err := b.common.ReadFrom(bytes.NewReader(common)); err != nil {
		return nil, fmt.Errorf("filter of common passwords: %w", err)
	}
	// An instrument that can't be made is a no-op one.
	b.failed, _ = otel.Meter("github.com/purserhq/purser/services/auth/password").Int64Counter(
		"breached_api_failures_total",
		metric.WithDescription("Passwords that the breach API returned no result for."))
	b.failed.Add(context.Background(), 0)
	return b, nil
}

// Known reports whether a password, in any case, is breached. A failure of the API
// counts as no.
func (b *Breaches) Known(ctx context.Context, password string) bool {
	if b.common.TestString(strings.ToLower(password)) {
		return true
	}
	if b.api == "" {
		return false
	}
	known, err := b.queryAPI(ctx, password)
	if err != nil {
		b.failed.Add(ctx, 1)
	}
	return known
}

func (b *Breaches) queryAPI(ctx context.Context, password string) (bool, error) {
	prefix, suffix := digest(password)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.api+"/"+prefix, http.NoBody)
	if err != nil {
		return false, err
	}
	req.Header.Set("Add-Padding", "true") // hides the number of matches from eavesdroppers
	resp, err := b.client.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxResponseBytes))
	for lines.Scan() {
		match, count, _ := strings.Cut(lines.Text(), ":")
		if strings.EqualFold(match, suffix) && strings.TrimSpace(count) != "0" { // padding counts 0
			return true, nil
		}
	}
	return false, lines.Err()
}

// digest returns the SHA-1 of a password in hexadecimal, split after the five
// digits that the API is queried by.
func digest(password string) (prefix, suffix string) {
	sum := sha1.Sum([]byte(password))
	all := strings.ToUpper(hex.EncodeToString(sum[:]))
	return all[:5], all[5:]
}
