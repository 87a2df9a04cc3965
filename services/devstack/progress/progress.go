// Package progress prints the steps of a long start as they happen, each with its name, duration and
// result. A step of more than a second also prints its state every second.
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

// Note sets the state of a running step.
type Note func(format string, args ...any)

// Step runs work and prints its name, duration and result or error.
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

// Printf prints text between the steps.
func (p *Printer) Printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, format, args...) // the program goes on without its terminal
}

// Elapsed returns the time since New.
func (p *Printer) Elapsed() string { return seconds(time.Since(p.begun)) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }
