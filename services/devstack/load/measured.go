package load

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// Measured is a result with the processor time that it took.
type Measured struct {
	*Result
	// Shares are in the order of the parts of the stand; they include the warm-up.
	Shares []Share
	// Elapsed is the time over which Shares were measured.
	Elapsed time.Duration
	// Calls is how many were planned in that time.
	Calls int
}

// Measure carries out a plan, which needs no scenarios, and measures the processors meanwhile.
func (s *TestBed) Measure(ctx context.Context, p Plan) (*Measured, error) {
	if err := s.product.Prepare(ctx); err != nil {
		return nil, fmt.Errorf("%s: prepare: %w", s.Name, err)
	}
	if _, _, err := s.shares.Take(); err != nil {
		return nil, err
	}
	p.Scenarios = s.product.Scenarios()
	r, err := Run(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	m := &Measured{Result: r, Calls: len(p.calls())}
	m.Shares, m.Elapsed, err = s.shares.Take()
	return m, err
}

// Merge adds another one of the same stand.
func (m *Measured) Merge(other *Measured) {
	m.Result.Merge(other.Result)
	m.Elapsed, m.Calls = m.Elapsed+other.Elapsed, m.Calls+other.Calls
	for i := range m.Shares {
		m.Shares[i].CPU += other.Shares[i].CPU
	}
}

// PerCall is the processor time of a part for each planned call.
func (m *Measured) PerCall(part string) time.Duration {
	i := slices.IndexFunc(m.Shares, func(s Share) bool { return s.Name == part })
	if i < 0 || m.Calls == 0 {
		return 0
	}
	return m.Shares[i].CPU / time.Duration(m.Calls)
}

// WriteShares prints shares in per cent of all processors, and the processor time of a call in milliseconds.
func (m *Measured) WriteShares(out io.Writer) error {
	all := m.Elapsed * time.Duration(runtime.NumCPU())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "%d processors\tshare\tms/call\t\n", runtime.NumCPU())
	for _, s := range m.Shares {
		_, _ = fmt.Fprintf(w, "%s\t%.1f %%\t%.3f\t\n", s.Name, 100*s.CPU.Seconds()/all.Seconds(),
			1000*m.PerCall(s.Name).Seconds())
	}
	return w.Flush()
}
