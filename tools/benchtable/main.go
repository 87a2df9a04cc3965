// Command benchtable reads what `go test -bench` prints and writes one table:
// each figure beside the raw primitive of the same run, their ratio, and the
// goal. It passes on what isn't a benchmark's line to stderr.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type result map[string]float64 // by unit

func main() {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "figure\tmeasured\traw\tratio\tgoal\tp99 ratio\tgoal\tallocs\tgoal\t")
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
		row, met := r.row()
		if !met {
			missed++
			row += "missed"
		}
		fmt.Fprintf(out, "%s %s\t%s\n", pkg, name, row)
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

func (r result) row() (string, bool) {
	measured, goal := duration(r["ns/op"]), ""
	met := true
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
	switch {
	case r["bytes"] > 0: // of storage
		measured, goal = fmt.Sprintf("%.1f B", r["bytes"]), compare("ratio", "goal")+"×"
	case r["goal"] > 0:
		goal = compare("ratio", "goal") + "×"
	case r["goal-ms"] > 0:
		measured = fmt.Sprintf("p99 %.3g ms", r["p99-ms"])
		goal = compare("p99-ms", "goal-ms") + " ms"
	case r["goal-s"] > 0:
		r["s/op"] = r["ns/op"] / 1e9
		goal = compare("s/op", "goal-s") + " s"
	case r["goal-ns"] > 0:
		goal = compare("ns/op", "goal-ns") + " ns"
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
	return strings.Join([]string{measured, raw, ratio, goal, slowest, compare("p99-ratio", "p99-goal"),
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
