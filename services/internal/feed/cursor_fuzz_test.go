package feed_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/feed"
)

func FuzzCheckCursor(f *testing.F) {
	for _, text := range []string{"", "5f3a9c01-42", "5f3a9c01-9223372036854775808", "5f3a9c01--1",
		"5f3a9c01-042", "-"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := feed.CheckCursor(text)
		if err == nil {
			if id, number, ok := strings.Cut(text, "-"); text != "" && (!ok || len(id) != 8 || number == "" ||
				strings.Trim(number, "0123456789") != "") {
				t.Errorf("%q was taken", text)
			}
			return
		}
		if e := errs.As(err); e == nil || e.Kind != errs.KindInvalid || len(e.Violations) != 1 ||
			e.Violations[0].Field != "cursor" {
			t.Errorf("%q: %v", text, err)
		}
	})
}
