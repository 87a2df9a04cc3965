package load

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// header of the table that Row and Write fill.
const header = "\trate/s\tsent\tp50\tp90\tp99\tp99.9\tmax\terrors\tnot sent\t"

// Write prints the result as a table: a line for each scenario, then one for all. Latencies are in milliseconds.
func (r *Result) Write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, header)
	for _, l := range r.Scenarios {
		_, _ = fmt.Fprintln(w, l.row(r.Took, 0))
	}
	_, _ = fmt.Fprintln(w, r.All.row(r.Took, r.NotSent))
	if err := w.Flush(); err != nil {
		return err
	}
	if r.First != nil {
		if _, err := fmt.Fprintf(out, "first error: %v\n", r.First); err != nil {
			return err
		}
	}
	return nil
}

// Line is the result of all scenarios in one line.
func (r *Result) Line() string {
	return fmt.Sprintf("%7.0f/s  p50 %8s  p90 %8s  p99 %8s  max %8s ms, %d errors, %d not sent", r.Rate,
		ms(r.All.Quantile(0.5)), ms(r.All.Quantile(0.9)), ms(r.All.Quantile(0.99)), ms(r.All.Max()), r.All.Failed,
		r.NotSent)
}

func (l *Latencies) row(took time.Duration, notSent int) string {
	return fmt.Sprintf("%s\t%.1f\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t", l.Name, float64(l.Sent)/took.Seconds(), l.Sent,
		ms(l.Quantile(0.5)), ms(l.Quantile(0.9)), ms(l.Quantile(0.99)), ms(l.Quantile(0.999)), ms(l.Max()), l.Failed,
		notSent)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
