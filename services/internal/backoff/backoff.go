// Package backoff has the pauses between repeated attempts.
package backoff

import "time"

// Tripled returns the pause after the attempt-th failed attempt, from 1 on: first, then three times as long after each
// further one, and limit at most.
func Tripled(attempt int, first, limit time.Duration) time.Duration {
	pause := first
	for range attempt - 1 {
		if pause *= 3; pause >= limit {
			return limit
		}
	}
	return pause
}
