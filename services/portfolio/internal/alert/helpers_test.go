package alert_test

import (
	"slices"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
)

// wantFields fails the test unless an error is errs.Invalid on exactly these fields.
func wantFields(t *testing.T, err error, fields []string) {
	t.Helper()
	var got []string
	if e := errs.As(err); e != nil {
		for _, v := range e.Violations {
			got = append(got, v.Field)
		}
	}
	if !slices.Equal(got, fields) || (err == nil) != (len(fields) == 0) {
		t.Errorf("%v names the fields %v, want %v", err, got, fields)
	}
}
