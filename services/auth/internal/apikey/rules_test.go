package apikey

import (
	"testing"

	"github.com/purserhq/purser/pkg/errs"
)

func TestAUserHasFiftyUsableKeys(t *testing.T) {
	if err := checkCount(49); err != nil {
		t.Error(err)
	}
	if e := errs.As(checkCount(50)); e == nil || e.Reason != "TOO_MANY_API_KEYS" {
		t.Error(e)
	}
}
