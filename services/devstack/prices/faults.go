package prices

import (
	"net/http"
	"strconv"
	"time"
)

// Faults configures how a feed misbehaves. The zero value has no faults. Several can be set: Delay comes first, then
// Status or Body, then the prices.
type Faults struct {
	// Delay of each answer.
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

// answer writes Status and Body, if set, and reports whether it did.
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
	// It fails only if the client has gone.
	_, _ = w.Write([]byte(f.Body))
	return true
}
