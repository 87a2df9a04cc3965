package telemetry_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/telemetry"
	"github.com/purserhq/purser/pkg/testkit"
)

// collector takes OTLP over HTTP, and keeps the bodies by path.
type collector struct {
	*httptest.Server

	mu   sync.Mutex
	sent map[string][]byte
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{sent: map[string][]byte{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent[r.URL.Path] = append(c.sent[r.URL.Path], b...)
	}))
	t.Cleanup(c.Close)
	return c
}

// One variable sends all three signals to a collector, and each has its own.
func TestTracesMetricsAndLogsAreExportedByTheStandardVariables(t *testing.T) {
	for name, tt := range map[string]struct {
		set  map[string]string
		sent string // the paths
	}{
		"nothing is asked for": {nil, ""},
		"an endpoint for all": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "URL"},
			"/v1/logs /v1/metrics /v1/traces"},
		"all but logs": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_LOGS_EXPORTER": "none"},
			"/v1/metrics /v1/traces"},
		"all but metrics": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_METRICS_EXPORTER": "none"},
			"/v1/logs /v1/traces"},
		"an endpoint for metrics": {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "URL/v1/metrics"},
			"/v1/metrics"},
		"an endpoint for logs": {map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "URL/v1/logs"}, "/v1/logs"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			quiet(t)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			for name, value := range tt.set {
				t.Setenv(name, strings.Replace(value, "URL", c.URL, 1))
			}
			tel, err := telemetry.Start(t.Context(), "purser-wallet")
			if err != nil {
				t.Fatal(err)
			}
			var written bytes.Buffer
			log := telemetry.NewLogger(&written, slog.LevelInfo, "wallet").With("a", 1)
			ctx, span := otel.Tracer("test").Start(t.Context(), "the-span")
			log.WarnContext(ctx, "the-line", "b", "the-attribute")
			log.DebugContext(ctx, "below-the-level")
			id := span.SpanContext().TraceID()
			span.End()
			h, err := otel.Meter("test").Float64Histogram("the_seconds", metric.WithUnit("s"))
			if err != nil {
				t.Fatal(err)
			}
			h.Record(ctx, 0.002)
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if !strings.Contains(written.String(), "the-line") {
				t.Errorf("written is %q", written.String())
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for path, want := range map[string][]string{
				"/v1/traces": {"the-span", "purser-wallet"}, "/v1/metrics": {"the_seconds", "purser-wallet"},
				"/v1/logs": {"the-line", "the-attribute", "WARN", "purser-wallet", string(id[:])},
			} {
				if got := len(c.sent[path]) > 0; got != strings.Contains(tt.sent, path) {
					t.Errorf("%s: sent is %v", path, got)
				} else if !got {
					continue
				}
				for _, text := range want {
					if !bytes.Contains(c.sent[path], []byte(text)) {
						t.Errorf("%s: no %q in %q", path, text, c.sent[path])
					}
				}
			}
			if bytes.Contains(c.sent["/v1/logs"], []byte("below-the-level")) {
				t.Error("a line below the level was exported")
			}
		})
	}
}

func TestAnExporterOfAnySignalThatDoesNotExistIsAnError(t *testing.T) {
	for _, variable := range []string{"OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"} {
		quiet(t)
		t.Setenv("OTEL_METRICS_EXPORTER", "")
		t.Setenv(variable, "carrier-pigeon")
		if _, err := telemetry.Start(t.Context(), "wallet"); err == nil ||
			!strings.Contains(err.Error(), variable+`="carrier-pigeon"`) {
			t.Errorf("Start = %v", err)
		}
	}
}

// What go-otel prints by itself is no JSON, and comes with every batch.
func TestErrorsOfExportingAreLoggedOnceAMinute(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such signal here", http.StatusNotFound)
	}))
	defer refusing.Close()
	quiet(t)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refusing.URL)
	tel, err := telemetry.Start(t.Context(), "wallet")
	if err != nil {
		t.Fatal(err)
	}
	var written testkit.LogBuffer
	telemetry.LogErrorsTo(telemetry.NewLogger(&written, slog.LevelInfo, "wallet"))
	defer otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	for range 2 {
		otel.Handle(errors.New("upload to https://key:hunter2@collector.example/v1/traces failed"))
	}
	_ = tel.Shutdown(t.Context()) // which also tries to export that line
	if n := strings.Count(written.String(), "telemetry can't be exported"); n != 1 {
		t.Errorf("%d lines:\n%s", n, written.String())
	}
	if strings.Contains(written.String(), "hunter2") {
		t.Error(written.String())
	}
}
