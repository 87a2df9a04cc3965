package app_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnHTTPRequestWithTooLargeHeadersIsToldSo(t *testing.T) {
	s := start(t)
	for _, size := range []int{32 << 10, 1 << 20} {
		for _, path := range []string{"/.well-known/jwks.json", "/oauth/local/start", "/nothing"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.http+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Large", strings.Repeat("x", size))
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatalf("%s with %d bytes: %v", path, size, err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s with %d bytes: %s", path, size, resp.Status)
			}
		}
	}
}
