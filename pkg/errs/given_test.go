package errs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
)

func TestWhatWasGivenIsQuotedCutAndNeverASecret(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"nothing":           {"", "got nothing"},
		"a word":            {"vitalik.eth", `got "vitalik.eth"`},
		"white space":       {"1 ", `got "1 "`},
		"invisible letters": {"a\u200b\n", `got "a\u200b\n"`},
		"an address":        {"eip155:1:0x" + strings.Repeat("a", 40), `got "eip155:1:0xaaaa`},
		"a UUID": {"0199ed3c-5a2e-7c4e-9d0f-3b1f4c5d6e7f",
			`got "0199ed3c-5a2e-7c4e-9d0f-3b1f4c5d6e7f"`},
		"a long text":             {strings.Repeat("ü ", 4) + strings.Repeat("ü", 60), `got "ü ü ü ü üüü`},
		"a JWT":                   {"eyJhbGciOiJFZERTQSJ9.e30.AA", "got 27 characters, not repeated"},
		"an API key":              {"purser_key_abc", "got 14 characters, not repeated"},
		"a refresh token":         {strings.Repeat("aB3_", 11), "got 44 characters, not repeated"},
		"a private key":           {"0x" + strings.Repeat("1f", 32), "got 66 characters, not repeated"},
		"one written as a number": {"0x" + strings.Repeat("f", 63), "got 65 characters, not repeated"},
		"a recovery phrase":       {strings.Repeat("word ", 12), "got 60 characters, not repeated"},
		"a PEM block":             {"-----BEGIN PRIVATE KEY-----", "got 27 characters, not repeated"},
		"a key within a text":     {"key=" + strings.Repeat("x", 50) + " please", "got 61 characters, not repeated"},
	} {
		if got := errs.Given(tt.in); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	if got := errs.Given(strings.Repeat("ü ", 4) + strings.Repeat("ü", 60)); strings.Count(got, "ü") != 60 ||
		!strings.HasSuffix(got, "…") {
		t.Errorf("a long text is not cut at 64 characters: %s", got)
	}
	if got := errs.GivenSecret("hunter2"); got != "got 7 characters" {
		t.Error(got)
	}
}

func TestAllViolationsAreToldTogether(t *testing.T) {
	if err := errs.AllInvalid(nil, nil); err != nil {
		t.Error(err)
	}
	e := errs.As(errs.AllInvalid(errs.Invalid("a", "1"), nil, errs.Invalid("b", "2"), errs.Invalid("a", "3")))
	if e == nil || e.Message != "a: 1; b: 2" || len(e.Violations) != 2 {
		t.Errorf("%+v", e)
	}
	other := errors.New("other")
	if err := errs.AllInvalid(errs.Invalid("a", "1"), other); !errors.Is(err, other) {
		t.Error(err)
	}
	var many []error
	for i := range 12 {
		many = append(many, errs.Invalid(fmt.Sprint(i), "x"))
	}
	if e := errs.As(errs.AllInvalid(many...)); len(e.Violations) != errs.MaxViolations ||
		!strings.HasSuffix(e.Message, "and 2 more") {
		t.Errorf("%+v", e)
	}
}

func TestAFactIsAddedToACopy(t *testing.T) {
	first := errs.Conflict("ETAG_MISMATCH", "x").With("current_etag", "2")
	second := first.With("other", "3")
	if len(first.Metadata) != 1 || len(second.Metadata) != 2 || second.Metadata["current_etag"] != "2" {
		t.Errorf("%v, %v", first.Metadata, second.Metadata)
	}
}
