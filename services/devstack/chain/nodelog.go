package chain

import (
	"context"
	"io"
	"log/slog"

	gethlog "github.com/ethereum/go-ethereum/log"
)

// nodeLogger is go-ethereum's logger over a slog handler. It is a separate type because gethlog.SetDefault
// makes a logger of go-ethereum's own type the default of slog too.
type nodeLogger struct{ gethlog.Logger }

// newNodeLogger sends the node's log to target. Fatal errors go to fatalOut if target discards them.
func newNodeLogger(target *slog.Logger, fatalOut io.Writer) nodeLogger {
	handler := nodeHandler{
		target:   target.Handler(),
		fatalOut: slog.NewTextHandler(fatalOut, nil),
	}
	return nodeLogger{gethlog.NewLogger(handler)}
}

// nodeHandler demotes Info to Debug, drops what is below, and turns go-ethereum's
// level for fatal errors into slog's Error.
type nodeHandler struct {
	target, fatalOut slog.Handler
}

func nodeLevel(level slog.Level) slog.Level {
	switch {
	case level >= slog.LevelError:
		return slog.LevelError
	case level >= slog.LevelWarn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

func (h nodeHandler) Enabled(ctx context.Context, level slog.Level) bool {
	if level >= gethlog.LevelCrit {
		return true
	}
	return level >= slog.LevelInfo && h.target.Enabled(ctx, nodeLevel(level))
}

func (h nodeHandler) Handle(ctx context.Context, r slog.Record) error {
	fatal := r.Level >= gethlog.LevelCrit
	r.Level = nodeLevel(r.Level)
	if h.target.Enabled(ctx, r.Level) {
		return h.target.Handle(ctx, r)
	}
	if fatal {
		return h.fatalOut.Handle(ctx, r)
	}
	return nil
}

func (h nodeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return nodeHandler{h.target.WithAttrs(attrs), h.fatalOut.WithAttrs(attrs)}
}

func (h nodeHandler) WithGroup(name string) slog.Handler {
	return nodeHandler{h.target.WithGroup(name), h.fatalOut.WithGroup(name)}
}
