package performance

import "math"

// smallestDeviation is the daily deviation below which returns count as equal: it is
// above the error of float64, and no portfolio is that steady.
const smallestDeviation = 1e-12

// Risk is computed from daily returns, which are simple, not logarithmic.
type Risk struct {
	// Returns is how many there are. Fewer than two make all figures unavailable.
	Returns int
	// Volatility is their sample deviation (divided by n - 1) times √365.
	Volatility Ratio
	// DownsideDeviation is √(Σ min(r - f, 0)² / n) times √365, where f is the risk-free
	// rate of a day and n counts all returns.
	DownsideDeviation Ratio
	// Sharpe is the mean of r - f times √365, divided by the sample deviation; Sortino
	// is divided by the downside deviation instead.
	Sharpe, Sortino Ratio
	// Calmar is the annualised time-weighted return divided by the largest drawdown.
	Calmar Ratio
}

// riskOf computes the figures, but Calmar.
func riskOf(returns []float64, riskFree float64) Risk {
	r := Risk{Returns: len(returns)}
	if len(returns) < 2 {
		few := Ratio{Unavailable: ReasonFewReturns}
		r.Volatility, r.DownsideDeviation, r.Sharpe, r.Sortino = few, few, few, few
		return r
	}
	n, ofDay := float64(len(returns)), math.Expm1(math.Log1p(riskFree)/yearDays)
	var sum float64
	for _, x := range returns {
		sum += x
	}
	mean := sum / n
	var squares, below float64
	for _, x := range returns {
		squares += (x - mean) * (x - mean)
		below += math.Pow(min(x-ofDay, 0), 2)
	}
	deviation, downside := math.Sqrt(squares/(n-1)), math.Sqrt(below/n)
	r.Volatility, r.DownsideDeviation = finite(deviation*math.Sqrt(yearDays)), finite(downside*math.Sqrt(yearDays))
	r.Sharpe, r.Sortino = Ratio{Unavailable: ReasonNoDeviation}, Ratio{Unavailable: ReasonNoDownside}
	if deviation > smallestDeviation {
		r.Sharpe = finite((mean - ofDay) / deviation * math.Sqrt(yearDays))
	}
	if downside > smallestDeviation {
		r.Sortino = finite((mean - ofDay) / downside * math.Sqrt(yearDays))
	}
	return r
}

func calmar(r Return, d Drawdown) Ratio {
	switch {
	case r.Annualized.Unavailable != "":
		return r.Annualized
	case d.Depth.Unavailable != "":
		return d.Depth
	}
	return finite(r.Annualized.Figure / -d.Depth.Figure)
}

func finite(f float64) Ratio {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return Ratio{Unavailable: ReasonOutOfRange}
	}
	return Ratio{Figure: f}
}
