package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/telemetry"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.LeakFree(m) }

func inSpan(t *testing.T) (context.Context, string) {
	t.Helper()
	id := trace.TraceID{1, 2, 3}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{4}})
	return trace.ContextWithSpanContext(t.Context(), sc), id.String()
}

func TestALogLineCarriesTheTraceItWasWrittenIn(t *testing.T) {
	ctx, id := inSpan(t)
	for name, tt := range map[string]struct {
		write func(*slog.Logger)
		want  string
	}{
		"in a span":       {func(l *slog.Logger) { l.InfoContext(ctx, "m") }, id},
		"outside any":     {func(l *slog.Logger) { l.InfoContext(t.Context(), "m") }, ""},
		"with attributes": {func(l *slog.Logger) { l.With("a", 1).InfoContext(ctx, "m", "b", 2) }, id},
		"with many of its own": {func(l *slog.Logger) {
			l.InfoContext(ctx, "m", "a", 1, "b", 2, "c", 3, "d", 4, "e",
				5, "f", 6, "g", 7)
		}, id},
		"in a group, also there": {func(l *slog.Logger) { l.WithGroup("g").InfoContext(ctx, "m", "b", 2) }, id},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tt.write(telemetry.NewLogger(&out, slog.LevelInfo, "wallet"))
			var line map[string]any
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if line["service"] != "wallet" || line["msg"] != "m" {
				t.Errorf("line %s", &out)
			}
			if strings.Contains(out.String(), "trace_id") != (tt.want != "") ||
				!strings.Contains(out.String(), tt.want) {
				t.Errorf("line %s, want trace id %q", &out, tt.want)
			}
		})
	}
}

func TestLinesBelowTheLevelAreNotLogged(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	l := telemetry.NewLogger(&out, &level, "wallet")
	l.Debug("quiet")
	level.Set(slog.LevelDebug)
	l.With("a", 1).Debug("loud")
	if s := out.String(); strings.Contains(s, "quiet") || !strings.Contains(s, "loud") {
		t.Errorf("logged %s", s)
	}
}

// quiet takes the OTEL_* variables of whoever runs the tests away.
func quiet(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
}

func TestStartGivesTracesMetricsAndPropagation(t *testing.T) {
	quiet(t)
	tel, err := telemetry.Start(t.Context(), "wallet")
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := otel.Tracer("test").Start(t.Context(), "work")
	if !span.SpanContext().IsValid() {
		t.Error("a span has no trace id, so log lines can't be joined")
	}
	carrier := propagation.MapCarrier{}
	otel.GetTextMapPropagator().Inject(ctx, carrier)
	if !strings.Contains(carrier["traceparent"], span.SpanContext().TraceID().String()) {
		t.Errorf("the next service gets %v", carrier)
	}
	span.End()
	counter, err := otel.Meter("test").Int64Counter("calls_total")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 3)
	families, err := tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		found = found || f.GetName() == "calls_total" && f.GetMetric()[0].GetCounter().GetValue() == 3
	}
	if !found {
		t.Errorf("the registry has %v", families)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAHistogramOfSecondsTellsMillisecondsApart(t *testing.T) {
	tel, err := telemetry.Start(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Flush()
	h, err := otel.Meter("test").Float64Histogram("wait_seconds", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	h.Record(t.Context(), 0.002)
	families, err := tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "wait_seconds" {
			continue
		}
		buckets := f.GetMetric()[0].GetHistogram().GetBucket()
		if first := buckets[0]; first.GetUpperBound() > 0.005 || first.GetCumulativeCount() != 0 {
			t.Errorf("2 ms are in the first bucket, up to %g s", first.GetUpperBound())
		}
		return
	}
	t.Error("there is no histogram")
}

func TestSpansAreExportedOnlyIfConfiguredAndAtShutdownTheLatest(t *testing.T) {
	for name, tt := range map[string]struct {
		variable func(url string) (name, value string)
		exporter string
		leave    bool
	}{
		"nothing is asked for": {func(string) (string, string) { return "OTEL_SERVICE_NAME", "x" }, "", false},
		"an endpoint is": {func(url string) (string, string) { return "OTEL_EXPORTER_OTLP_ENDPOINT", url }, "",
			true},
		"one for traces is": {func(url string) (string, string) {
			return "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
				url + "/v1/traces"
		}, "", true},
		"none is, by name": {func(url string) (string, string) { return "OTEL_EXPORTER_OTLP_ENDPOINT", url },
			"none", false},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var sent []byte
			collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, b...)
			}))
			defer collector.Close()
			quiet(t)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			t.Setenv("OTEL_TRACES_EXPORTER", tt.exporter)
			t.Setenv(tt.variable(collector.URL))
			tel, err := telemetry.Start(t.Context(), "wallet")
			if err != nil {
				t.Fatal(err)
			}
			_, span := otel.Tracer("test").Start(t.Context(), "the-work")
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if bytes.Contains(sent, []byte("the-work")) != tt.leave ||
				tt.leave && !bytes.Contains(sent, []byte("wallet")) {
				t.Errorf("the collector got %q", sent)
			}
		})
	}
}

// exported counts what passes through it.
type exported struct {
	sdktrace.SpanExporter
	spans *int
}

func (e exported) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	*e.spans += len(spans)
	return e.SpanExporter.ExportSpans(ctx, spans)
}

func TestAProcessorGetsAllSpansAndAnExporterThoseThatAreExported(t *testing.T) {
	for name, tt := range map[string]struct {
		exporter string
		leave    int
	}{
		"none leave": {"", 0},
		"they leave": {"console", 1},
	} {
		t.Run(name, func(t *testing.T) {
			quiet(t)
			t.Setenv("OTEL_TRACES_EXPORTER", tt.exporter)
			seen, left := tracetest.NewSpanRecorder(), 0
			tel, err := telemetry.Start(t.Context(), "wallet", telemetry.WithSpanProcessor(seen),
				telemetry.WithSpanExporter(func(
					e sdktrace.SpanExporter) sdktrace.SpanExporter {
					return exported{e, &left}
				}))
			if err != nil {
				t.Fatal(err)
			}
			_, span := otel.Tracer("test").Start(t.Context(), "work")
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if len(seen.Ended()) != 1 || left != tt.leave {
				t.Errorf("the processor saw %d spans and the exporter %d, want 1 and %d", len(seen.Ended()), left,
					tt.leave)
			}
		})
	}
}

func TestAnExporterThatDoesNotExistIsAnError(t *testing.T) {
	quiet(t)
	t.Setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
	if _, err := telemetry.Start(t.Context(), "wallet"); err == nil ||
		!strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("Start = %v", err)
	}
}
