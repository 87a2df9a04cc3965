package jobs

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/page"
)

// 500 runs that failed with the longest stored error are more than a page may have.
func TestAPageOfRunsEndsByItsBytes(t *testing.T) {
	records := make([]Record, maxPageSize)
	for i := range records {
		records[i] = Record{Key: Key{Job: strings.Repeat("j", 128)}, Error: strings.Repeat("e", maxErrorBytes)}
	}
	n := fitting(records)
	if size := n * (recordBytes + 128 + maxErrorBytes); n < 1 || n == len(records) || size > page.MaxBytes {
		t.Errorf("%d rows with %d bytes are on a page", n, size)
	}
	records[0].Error = strings.Repeat("e", page.MaxBytes+1)
	if n := fitting(records); n != 1 {
		t.Errorf("a row that is too large is one of %d", n)
	}
	if n := fitting(nil); n != 0 {
		t.Errorf("%d of no rows", n)
	}
}
