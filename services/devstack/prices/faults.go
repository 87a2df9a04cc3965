package prices

import (
	"net/http"
	"strconv"
	"time"
)

// Faults is how a feed misbehaves. The zero value is a feed that works. Several
// can be set at once: Delay comes first, then Status or Body, then the prices.
type Faults struct {
	// Delay is how long an answer is held back.
	Delay time.Duration
	// Status, if not 0, is answered in place of prices, such as 429 or 500.
	Status int
	// RetryAfter goes with Status as a header, in whole seconds, if not 0.
	RetryAfter time.Duration
	// Body, if not empty, is answered in place of prices, as it is.
	Body string
	// Absent are symbols that the feed has no price for.
	Absent []string
	// Price replaces the price of a symbol by any JSON value, such as "-1", "1e400",
	// "null" or "\"soon\"", which goes into the answer as it is.
	Price map[string]string
	// Age makes the stated time of every price older.
	Age time.Duration
}

// answer writes the answer that the faults put in place of prices, if any.
func (f Faults) answer(w http.ResponseWriter) bool {
	if f.Status == 0 && f.Body == "" {
		return false
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	if f.Status != 0 {
		w.WriteHeader(f.Status)
	}
	// A reader that has gone away is no concern of the feed's.
	_, _ = w.Write([]byte(f.Body))
	return true
}
