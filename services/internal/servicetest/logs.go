package servicetest

import (
	"strings"
	"sync"
)

// Logs collects what services log, as text. The zero value is empty. It is safe
// for concurrent use.
type Logs struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns everything that was logged.
func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Contains reports whether text was logged.
func (l *Logs) Contains(text string) bool { return strings.Contains(l.String(), text) }
