// Command filter makes the filter of common passwords of a list, one a line,
// that it reads from its input: `make common-passwords` has where the list is
// from.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/bits-and-blooms/bloom/v3"
)

const (
	shortest  = 8 // that any deployment takes
	falseHits = 1e-5
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "filter:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	list := map[string]struct{}{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if p := strings.ToLower(lines.Text()); utf8.RuneCountInString(p) >= shortest {
			list[p] = struct{}{}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read list: %w", err)
	}
	filter := bloom.NewWithEstimates(uint(len(list)), falseHits)
	for p := range list {
		filter.AddString(p)
	}
	if _, err := filter.WriteTo(out); err != nil {
		return fmt.Errorf("write filter: %w", err)
	}
	return nil
}
