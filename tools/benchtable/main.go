// Command benchtable reads what `go test -bench` prints and writes one table:
// each figure beside the raw primitive of the same run, their ratio, and the
// goal. It passes on what isn't a benchmark's line to stderr.
package main

import (
	"bufio"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type result map[string]float64 // by unit

func main() {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "figure\tmeasured\traw\tratio\tgoal\tp99 ratio\tgoal\tallocs\tgoal\t")
	pkg, begun, missed := "", "", 0
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		line := s.Text()
		// What a benchmark logs comes between its name and its result.
		if name, rest, ok := strings.Cut(line, "\t"); ok && strings.HasPrefix(name, "Benchmark") && !numbered(rest) {
			begun = name
			continue
		}
		if begun != "" && numbered(line) {
			line, begun = begun+"\t"+line, ""
		}
		if p, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = p[strings.LastIndexByte(p, '/')+1:]
			continue
		}
		name, r, ok := parse(line)
		if !ok {
			if !noise(line) {
				fmt.Fprintln(os.Stderr, line)
			}
			continue
		}
		for beside, r := range r.rows() {
			row, met := r.row()
			if !met {
				missed++
				row += "missed"
			}
			_, _ = fmt.Fprintf(out, "%s %s%s\t%s\n", pkg, name, beside, row)
		}
	}
	_ = out.Flush()
	if missed > 0 {
		fmt.Printf("\n%d of the goals missed\n", missed)
	}
}

// numbered reports whether a line is the result of a benchmark without its
// name.
func numbered(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && line[0] >= '0' && line[0] <= '9'
}

func noise(line string) bool {
	for _, p := range []string{"goos:", "goarch:", "cpu:", "PASS", "ok  ", "?   ", "redis: ", "\t"} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return line == ""
}

// parse reads "BenchmarkName-2  1000  123 ns/op  1.1 ratio …".
func parse(line string) (string, result, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return "", nil, false
	}
	r := result{}
	for i := 2; i+1 < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return "", nil, false
		}
		r[fields[i+1]] = v
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		name = name[:i]
	}
	return name, r, true
}

// rows are a benchmark's row and one more for each other figure that it was compared with: "first-ns/op",
// "first-ratio" and "first-goal" are a row beside "first".
func (r result) rows() iter.Seq2[string, result] {
	return func(yield func(string, result) bool) {
		if !yield("", r) {
			return
		}
		for _, unit := range slices.Sorted(maps.Keys(r)) {
			other, ok := strings.CutSuffix(unit, "-goal")
			if _, raw := r[other+"-ns/op"]; !ok || !raw {
				continue
			}
			row := result{"ns/op": r["ns/op"], "raw-ns/op": r[other+"-ns/op"], "ratio": r[other+"-ratio"],
				"goal": r[unit]}
			if !yield(" beside "+other, row) {
				return
			}
		}
	}
}

func (r result) row() (string, bool) {
	measured, met := duration(r["ns/op"]), true
	compare := func(value, limitKey string) string {
		limit, ok := r[limitKey]
		if !ok {
			return ""
		}
		if r[value] > limit {
			met = false
		}
		return fmt.Sprintf("≤ %g", limit)
	}
	var goals []string
	add := func(value, limitKey, unit string) {
		if goal := compare(value, limitKey); goal != "" {
			goals = append(goals, goal+unit)
		}
	}
	if r["bytes"] > 0 { // of storage
		measured = fmt.Sprintf("%.1f B", r["bytes"])
	}
	if r["goal-ms"] > 0 {
		measured = fmt.Sprintf("p99 %.3g ms", r["p99-ms"])
	}
	r["s/op"] = r["ns/op"] / 1e9
	add("ratio", "goal", "×")
	add("p99-ms", "goal-ms", " ms")
	add("s/op", "goal-s", " s")
	if goal := compare("ns/op", "goal-ns"); goal != "" {
		goals = append(goals, "≤ "+duration(r["goal-ns"]))
	}
	raw, ratio, slowest := "", "", ""
	if v, ok := r["raw-ns/op"]; ok {
		raw, ratio = duration(v), fmt.Sprintf("%.2f×", r["ratio"])
	}
	if v, ok := r["raw-bytes"]; ok {
		raw, ratio = fmt.Sprintf("%.1f B", v), fmt.Sprintf("%.3f×", r["ratio"])
	}
	if v, ok := r["p99-ratio"]; ok {
		slowest = fmt.Sprintf("%.2f×", v)
	}
	allocs := ""
	if v, ok := r["allocs/op"]; ok {
		allocs = fmt.Sprint(v)
	}
	return strings.Join([]string{measured, raw, ratio, strings.Join(goals, ", "), slowest,
		compare("p99-ratio", "p99-goal"),
		allocs, compare("allocs/op", "allocs-goal"), ""}, "\t"), met
}

func duration(ns float64) string {
	if ns < 1000 {
		return fmt.Sprintf("%.3gns", ns)
	}
	d := time.Duration(ns)
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Nanosecond).String()
}
