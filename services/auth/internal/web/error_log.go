package web

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// ErrorLog returns a log for what net/http says by itself, such as a panic. A TLS handshake that fails is told at
// DEBUG: whoever reaches the port can cause it.
func ErrorLog(to *slog.Logger) *log.Logger { return log.New(errorLog{to}, "", 0) }

// errorLog gets one line a call.
type errorLog struct{ to *slog.Logger }

// Write implements io.Writer.
func (e errorLog) Write(line []byte) (int, error) {
	level, text := slog.LevelError, strings.TrimSpace(string(line))
	if strings.HasPrefix(text, "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	e.to.LogAttrs(context.Background(), level, "http port", slog.String("message", text))
	return len(line), nil
}
