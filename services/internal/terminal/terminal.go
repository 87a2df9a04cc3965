// Package terminal has what commands print for people: values, charts of them, and how far something has come.
package terminal

import "strings"

// Money formats a decimal with commas between thousands. Numbers under 100 have up to six decimal places, others two;
// the rest is cut off.
func Money(d string) string {
	if d == "" {
		return ""
	}
	d, negative := strings.CutPrefix(d, "-")
	whole, fraction, _ := strings.Cut(d, ".")
	var b strings.Builder
	if negative {
		b.WriteByte('-')
	}
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	places := 2
	if len(whole) < 3 {
		places = 6
	}
	fraction = strings.TrimRight(fraction[:min(places, len(fraction))], "0")
	if len(fraction) < 2 {
		fraction += strings.Repeat("0", 2-len(fraction))
	}
	return b.String() + "." + fraction
}
