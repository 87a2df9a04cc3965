package llama_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestAFeedThatRedirectsIsRefusedAndTheTargetIsNotAsked(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			target := newFeed(t, 200, reply(coin, "5", noon().Unix()))
			f := httptest.NewServer(http.RedirectHandler(target.URL+"/hunter2", status))
			t.Cleanup(f.Close)
			got, err := newSource(t, f.URL, noon).Current(t.Context(), tokens())
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("answered %v, %v", got, err)
			}
			if len(target.paths) != 0 {
				t.Errorf("the target was asked for %v", target.paths)
			}
		})
	}
}

func TestNoSpanCarriesTheFeedsURL(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	for _, tc := range []struct {
		name   string
		status int
	}{{"that answers", 200}, {"that fails", 500}} {
		t.Run("of a feed "+tc.name, func(t *testing.T) {
			spans.Reset()
			f := newFeed(t, tc.status, reply(coin, "5", noon().Unix()))
			if _, err := newSource(t, f.URL+"/hunter2", noon).Current(t.Context(),
				tokens()); (err == nil) != (tc.status == 200) {
				t.Fatal(err)
			}
			if len(f.paths) != 1 || !strings.Contains(f.paths[0], "hunter2") {
				t.Fatalf("asked for %v: the key was not sent", f.paths)
			}
			exported, err := json.Marshal(spans.GetSpans())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(exported), "llama.Current") {
				t.Errorf("no span of the call in %s", exported)
			}
			for _, part := range []string{"hunter2", "prices/current", strings.TrimPrefix(f.URL, "http://")} {
				if strings.Contains(string(exported), part) {
					t.Errorf("%q stands in %s", part, exported)
				}
			}
		})
	}
}
