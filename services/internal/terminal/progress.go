package terminal

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Between two texts of progress: one line that is written over on a terminal, or lines in a log.
const (
	terminalInterval = 200 * time.Millisecond
	logInterval      = 5 * time.Second
)

// Progress tells a person at a terminal, or who reads a log, how far a command has come. It is safe for
// concurrent use.
type Progress struct {
	out      io.Writer
	what     string
	terminal bool

	mu    sync.Mutex
	last  string
	shown time.Time
}

// NewProgress returns the progress of what is counted, for example "wallets".
func NewProgress(out io.Writer, what string) *Progress {
	p := &Progress{out: out, what: what}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// Show tells text, unless one was told a moment ago.
func (p *Progress) Show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = text
	wait := logInterval
	if p.terminal {
		wait = terminalInterval
	}
	if time.Since(p.shown) >= wait {
		p.print("\n")
	}
}

func (p *Progress) print(end string) {
	p.shown = time.Now()
	if p.terminal { // to the start of the line, and without what is left of it
		_, _ = fmt.Fprintf(p.out, "\r%s: %s\x1b[K", p.what, p.last)
		return
	}
	_, _ = fmt.Fprintf(p.out, "%s: %s%s", p.what, p.last, end)
}

// Clear makes room for another line.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// End tells the last text.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == "" {
		p.last = "nothing to do"
	}
	p.print("\n")
	if p.terminal {
		_, _ = fmt.Fprintln(p.out)
	}
}
