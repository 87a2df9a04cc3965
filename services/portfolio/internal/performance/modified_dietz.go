package performance

import (
	"time"

	"github.com/cockroachdb/apd/v3"
)

// modifiedDietz returns the gain divided by the average capital: the value at the
// start, and each flow weighted by the part of the period that is left after it. It is
// exact up to the division.
func modifiedDietz(marks []Mark, gain *apd.Decimal) (Ratio, error) {
	end := marks[len(marks)-1].Time
	length := microseconds(marks[0].Time, end)
	if length == 0 {
		return Ratio{Unavailable: ReasonTooShort}, nil
	}
	var a arithmetic
	capital := a.times(marks[0].Value, length) // times the length of the period
	for _, m := range marks[1:] {
		if !m.NetFlow.IsZero() {
			capital = a.add(capital, a.times(m.NetFlow, microseconds(m.Time, end)))
		}
	}
	if a.err == nil && capital.Sign() <= 0 {
		return Ratio{Unavailable: ReasonNoCapital}, nil
	}
	return a.fraction(a.quo(a.times(gain, length), capital)), a.err
}

func microseconds(from, to time.Time) int64 { return to.UnixMicro() - from.UnixMicro() }
