package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/purserhq/purser/pkg/errs"
)

// StatesAsMarkdown returns the rows of the table of SQLSTATE for a page.
func StatesAsMarkdown() string {
	codes := map[errs.Kind]string{errs.KindUnavailable: "UNAVAILABLE", errs.KindConflict: "ABORTED",
		errs.KindInvalid: "INVALID_ARGUMENT"}
	var rows strings.Builder
	var faults []string
	for _, s := range states() {
		if s.kind == errs.KindInternal {
			faults = append(faults, s.code)
			continue
		}
		connection, again := "kept", map[retry]string{never: "no", later: "yes",
			atOnce: "yes, after the service has five times"}[s.retry]
		if s.discard {
			connection = "closed"
		}
		fmt.Fprintf(&rows, "| %s | %s | `%s` `%s` | %s | %s |\n", s.code, s.what, codes[s.kind], s.reason, connection,
			again)
	}
	fmt.Fprintf(&rows, "| %s, except as above | a fault of the service, a missing migration, damaged data | "+
		"`INTERNAL` | kept | no |\n", strings.Join(faults, ", "))
	return rows.String()
}

// HasState reports whether the table has a row of a code or a class.
func HasState(code string) bool {
	_, ok := byCode[code]
	return ok
}

// OrderOfAddresses is the order in which the addresses of one name are tried after a connection to last.
func OrderOfAddresses(ctx context.Context, resolved []string, last string) []string {
	h := &hosts{last: last, resolved: map[string][]string{},
		lookup: func(context.Context, string) ([]string, error) { return resolved, nil }}
	order, _ := h.resolve(ctx, "name")
	return order
}
