package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// observed sets the process's telemetry for one test.
func observed(t *testing.T) (*metric.ManualReader, *tracetest.InMemoryExporter) {
	reader, spans := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	meters, tracers := otel.GetMeterProvider(), otel.GetTracerProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSyncer(spans)))
	t.Cleanup(func() {
		otel.SetMeterProvider(meters)
		otel.SetTracerProvider(tracers)
	})
	return reader, spans
}

// series lists what was measured, as name{attributes} value.
func series(t *testing.T, reader *metric.ManualReader) (all []string) {
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	line := func(name string, set attribute.Set, n any) {
		all = append(all, fmt.Sprintf("%s{%s} %d", name, set.Encoded(attribute.DefaultEncoder()), n))
	}
	for _, s := range data.ScopeMetrics {
		if s.Scope.Name != scope {
			continue
		}
		for _, m := range s.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					line(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					line(m.Name, p.Attributes, p.Count)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

func TestWhatIsToldOfRuns(t *testing.T) {
	reader, spans := observed(t)
	f := setup(t)
	var log bytes.Buffer
	run := func(_ context.Context, run *Run) error {
		if run.Attempt == 1 {
			return errors.New("secret")
		}
		return nil
	}
	r := f.runner(Options{Log: slog.New(slog.NewJSONHandler(&log, nil))},
		Job{Name: "fails", Run: run}, Job{Name: "late", Cron: "* * * * *",
			Run: func(context.Context, *Run) error { return nil }})
	spans.Reset()
	if err := r.Trigger(t.Context(), "fails"); err != nil {
		t.Fatal(err)
	}
	f.forward(5 * time.Minute)
	f.poll(r)
	f.forward(10 * time.Second)
	f.exec(`UPDATE job_runs SET state = 'running', sequence = 77, lease_until = test_now() - interval '1 second'
		WHERE job = 'fails'`)
	f.poll(r)
	r.slots = make(chan struct{})
	f.forward(time.Minute)
	f.poll(r)

	want := []string{ // counters begin at zero
		"task_duration_seconds{task_name=fails} 2", "task_duration_seconds{task_name=late} 1",
		"task_error_total{task_name=fails} 2", "task_error_total{task_name=late} 0",
		"task_skipped_total{reason=busy,task_name=fails} 0", "task_skipped_total{reason=busy,task_name=late} 1",
		"task_skipped_total{reason=locked,task_name=fails} 0", "task_skipped_total{reason=locked,task_name=late} 0",
		"task_skipped_total{reason=missed,task_name=fails} 0", "task_skipped_total{reason=missed,task_name=late} 4",
		"task_skipped_total{reason=superseded,task_name=fails} 0",
		"task_skipped_total{reason=superseded,task_name=late} 0",
		"task_success_total{task_name=fails} 1", "task_success_total{task_name=late} 1",
	}
	if got := series(t, reader); !slices.Equal(got, want) {
		t.Errorf("measured\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var messages []string
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		messages = append(messages, fmt.Sprint(entry["level"], " ", entry["msg"]))
	}
	slices.Sort(messages)
	if got := strings.Join(messages, "; "); got != "ERROR job run failed; INFO job run done; INFO job run done; "+
		"WARN job run's lease expired; WARN job ticks skipped" {
		t.Error(got)
	}
	runs := map[string]int{}
	for _, s := range spans.GetSpans() {
		if s.InstrumentationScope.Name == scope {
			runs[fmt.Sprint(s.Name, " ", s.Status.Code == codes.Error, " ", len(s.Attributes))]++
			if strings.Contains(fmt.Sprintf("%+v", s), "secret") {
				t.Error("a span carries the error's text")
			}
		}
	}
	if got := fmt.Sprint(runs); got != "map[job fails false 4:1 job fails true 4:1 job late false 4:1]" {
		t.Error(got)
	}
}

func TestAnOutageOfTheLedgerIsToldOnce(t *testing.T) {
	f := setup(t)
	var log bytes.Buffer
	ran := 0
	r := f.runner(Options{Log: slog.New(slog.NewTextHandler(&log, nil))},
		Job{Name: "j", Cron: "* * * * *", Run: func(context.Context, *Run) error { ran++; return nil }})
	f.exec(`ALTER TABLE job_schedules RENAME TO away`)
	f.forward(time.Minute)
	for range 3 {
		r.scheduledPoll()
	}
	f.exec(`ALTER TABLE away RENAME TO job_schedules`)
	for range 3 {
		r.scheduledPoll()
	}
	f.wait(r)
	if a, b := strings.Count(log.String(), "jobs: the ledger can't be read"),
		strings.Count(log.String(), "jobs: the ledger can be read again"); a != 1 || b != 1 || ran != 1 {
		t.Errorf("%d and %d lines, %d runs:\n%s", a, b, ran, log.String())
	}
}
