package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/trace"
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
