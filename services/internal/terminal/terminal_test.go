package terminal_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/purserhq/purser/services/internal/terminal"
)

func TestMoney(t *testing.T) {
	for d, want := range map[string]string{
		"": "", "0": "0.00", "5": "5.00", "0.00000001": "0.00", "0.123456789": "0.123456", "99.5": "99.50",
		"100.129": "100.12", "1234567.5": "1,234,567.50", "-1": "-1.00", "-123": "-123.00", "-1234.5": "-1,234.50",
		"-0.5": "-0.50",
	} {
		if got := terminal.Money(d); got != want {
			t.Errorf("Money(%q) = %q, want %q", d, got, want)
		}
	}
}

func TestAChartFitsATerminalAndIsLabelled(t *testing.T) {
	first, last := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 2, 28, 0, 0, 0, 0, time.UTC)
	many := func(value func(i int) string) (values []string) {
		for i := range 365 {
			values = append(values, value(i))
		}
		return values
	}
	for name, values := range map[string][]string{
		"two values": {"1", "2"},
		"no change":  {"5", "5", "5"},
		"nothing":    {"0", "0"},
		"below zero": {"-1", "2", "-3"},
		"many":       many(func(i int) string { return fmt.Sprint(i * i) }),
		"large":      many(func(i int) string { return fmt.Sprintf("%d000000000000000000000000000000.12345678", i) }),
		"small":      many(func(i int) string { return fmt.Sprintf("0.%08d", i) }),
	} {
		t.Run(name, func(t *testing.T) {
			chart := terminal.Chart(values, first, last)
			for line := range strings.SplitSeq(chart, "\n") {
				if n := utf8.RuneCountInString(line); n > 100 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			if !strings.Contains(chart, "2026-03-01") || !strings.Contains(chart, "2027-02-28") {
				t.Errorf("the axis isn't labelled:\n%s", chart)
			}
		})
	}
}
