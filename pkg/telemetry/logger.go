package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/redact"
)

// NewLogger returns a logger that writes JSON lines to w, with the trace id of
// their context as trace_id, and with the attribute service unless it is empty. Lines
// are also exported once Start was called, if the environment configures that.
func NewLogger(w io.Writer, level slog.Leveler, service string) *slog.Logger {
	log := slog.New(bothHandler{traceHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})},
		otelslog.NewHandler("github.com/purserhq/purser/pkg/telemetry")})
	if service == "" {
		return log
	}
	return log.With("service", service)
}

// bothHandler writes a record and exports it. A record below the level of the first is
// not exported either.
type bothHandler struct{ written, exported slog.Handler }

func (h bothHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.written.Enabled(ctx, level)
}

func (h bothHandler) Handle(ctx context.Context, r slog.Record) error {
	var failed error
	if h.exported.Enabled(ctx, r.Level) {
		failed = h.exported.Handle(ctx, r.Clone())
	}
	return errors.Join(h.written.Handle(ctx, r), failed)
}

func (h bothHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return bothHandler{h.written.WithAttrs(attrs), h.exported.WithAttrs(attrs)}
}

func (h bothHandler) WithGroup(name string) slog.Handler {
	return bothHandler{h.written.WithGroup(name), h.exported.WithGroup(name)}
}

// traceHandler adds the trace id of the context.
type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}

// LogErrorsTo logs the errors of exporting, which go-otel prints as bare text by
// default: the first, and then one a minute at most. It is process-wide; call it once,
// from main.
func LogErrorsTo(log *slog.Logger) { otel.SetErrorHandler(&errorLog{log: log}) }

// minLogInterval is the time between two errors that are logged.
const minLogInterval = time.Minute

type errorLog struct {
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	between int
}

// Handle implements otel.ErrorHandler. The line of an error may itself be exported, and
// fail: hence the gap, and no lock while it is written.
func (l *errorLog) Handle(err error) {
	if between, due := l.due(); due {
		l.log.Warn("telemetry can't be exported", "error", redact.Error(err), "since_last", between)
	}
}

// due reports whether an error is to be logged, and how many were not since the last.
func (l *errorLog) due() (between int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && time.Since(l.last) < minLogInterval {
		l.between++
		return 0, false
	}
	between = l.between
	l.last, l.between = time.Now(), 0
	return between, true
}
