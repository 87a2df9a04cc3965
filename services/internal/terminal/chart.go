package terminal

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/guptarohit/asciigraph"
)

const (
	maxWidth   = 98 // columns
	height     = 12
	dateWidth  = len(time.DateOnly)
	yAxisWidth = 3
)

// Chart draws decimal values that are as far apart as each other, from first to last, with dates in UTC below. One
// beyond 1e308 is drawn at the upper edge. There must be at
// least two. A drawing is as exact as its characters are high: print exact values beside it.
func Chart(values []string, first, last time.Time) string {
	var points []float64 // only for drawing
	maxLabelWidth := 0
	for _, v := range values {
		f, _ := strconv.ParseFloat(v, 64)
		points = append(points, f)
		maxLabelWidth = max(maxLabelWidth, utf8.RuneCountInString(axis(f)))
	}
	width := max(dateWidth, maxWidth-maxLabelWidth-yAxisWidth-dateWidth/2)
	return asciigraph.Plot(points,
		asciigraph.Width(width), asciigraph.Height(height), asciigraph.YAxisValueFormatter(axis),
		asciigraph.XAxisRange(float64(first.Unix()), float64(last.Unix())), asciigraph.XAxisValueFormatter(day),
		asciigraph.XAxisTickCount(min(len(points), 1+width/(2*dateWidth-5))))
}

func day(unix float64) string { return time.Unix(int64(unix), 0).UTC().Format(time.DateOnly) }

func axis(v float64) string { return Money(strconv.FormatFloat(v, 'f', 2, 64)) }
