package partition

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Print lists the partitions for people: how large they are, and how far ahead of now they are made.
func Print(ctx context.Context, s Store, now time.Time, out io.Writer) error {
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	var text strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&text, format, values...) }
	line("%-24s %-8s %10s %12s\n", "PARTITION", "MONTH", "SIZE", "ROWS")
	for _, p := range list {
		month, rows := "default", fmt.Sprint(p.Rows)
		if !p.Month.IsZero() {
			month = p.Month.Format("2006-01")
			if rows = "about " + rows; p.Rows < 0 {
				rows = "unknown"
			}
		}
		line("%-24s %-8s %10s %12s\n", p.Name, month, size(p.Bytes), rows)
	}
	present := Month(now)
	for _, t := range s.Tables() {
		ahead := Ahead(list, t.Name, present)
		if ahead < 0 {
			line("%s has no partition for %s: the job make_partitions makes it\n", t.Name,
				present.Format("2006-01"))
			continue
		}
		line("%s is made until the end of %s, %d months ahead\n", t.Name,
			present.AddDate(0, ahead, 0).Format("2006-01"), ahead)
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprint(bytes>>30, " GiB")
	case bytes >= 10<<20:
		return fmt.Sprint(bytes>>20, " MiB")
	}
	return fmt.Sprint((bytes+1023)>>10, " KiB")
}
