package testkit

import (
	"bytes"
	"strings"
	"sync"
)

// LogBuffer is a buffer for a log that a test reads while other goroutines write
// to it. The zero value is empty. It is safe for concurrent use.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Contains reports whether text was written.
func (b *LogBuffer) Contains(text string) bool { return strings.Contains(b.String(), text) }
