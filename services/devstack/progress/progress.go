// Package progress prints the steps of a long start as they happen: what is
// being done, how long it took, what came of it. A step that takes more than
// a second says every second that it is still at it.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Printer prints steps. It is safe for concurrent use.
type Printer struct {
	mu    sync.Mutex
	out   io.Writer
	begun time.Time
}

// New prints to out.
func New(out io.Writer) *Printer { return &Printer{out: out, begun: time.Now()} }

// Note is what a step says of itself while it runs.
type Note func(format string, args ...any)

// Step runs work and prints its name, its time and its result or error.
func (p *Printer) Step(name string, work func(Note) (string, error)) error {
	begun := time.Now()
	var mu sync.Mutex
	state := ""
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				mu.Lock()
				now := state
				mu.Unlock()
				p.Printf("  … %-22s %6s  %s\n", name, seconds(time.Since(begun)), now)
			}
		}
	})
	result, err := work(func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		state = fmt.Sprintf(format, args...)
	})
	close(done)
	watching.Wait()
	if err != nil {
		p.Printf("  ✗ %-22s %6s  %v\n", name, seconds(time.Since(begun)), err)
		return err
	}
	p.Printf("  ✓ %-22s %6s  %s\n", name, seconds(time.Since(begun)), result)
	return nil
}

// Printf prints a line of its own.
func (p *Printer) Printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, format, args...) // a closed terminal is no reason to stop
}

// Elapsed since the printer was made.
func (p *Printer) Elapsed() string { return seconds(time.Since(p.begun)) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }
