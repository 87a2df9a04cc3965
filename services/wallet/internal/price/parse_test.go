package price_test

import (
	"math/big"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{ // "" for refused
		{"a decimal number is kept", "1824.53", "1824.53"},
		{"all digits are kept", "0.1234567890123456789", "0.1234567890123456789"},
		{"an exponent is written out", "1.5e-7", "0.00000015"},
		{"a positive exponent too", "2E3", "2000"},
		{"zeros at the end go", "1.500", "1.5"},
		{"a plus sign goes", "+1", "1"},
		{"forty digits before the point", strings.Repeat("9", 40), strings.Repeat("9", 40)},
		{"forty-one digits before the point are refused", "1" + strings.Repeat("0", 40), ""},
		{"forty digits after the point", "0." + strings.Repeat("0", 39) + "1", "0." + strings.Repeat("0", 39) + "1"},
		{"forty-one digits after the point are refused", "0." + strings.Repeat("0", 40) + "1", ""},
		{"zero is refused", "0", ""},
		{"zero with decimals is refused", "0.000", ""},
		{"zero with a huge exponent is refused", "0e999999", ""},
		{"negative zero is refused", "-0", ""},
		{"a negative number is refused", "-1", ""},
		{"NaN is refused", "NaN", ""},
		{"a signalling NaN is refused", "sNaN", ""},
		{"infinity is refused", "Infinity", ""},
		{"inf is refused", "inf", ""},
		{"1e400 is refused", "1e400", ""},
		{"1e-400 is refused", "1e-400", ""},
		{"an exponent past 32 bits is refused", "1e99999999999", ""},
		{"a negative one too", "1e-99999999999", ""},
		{"a very long number is refused", "1" + strings.Repeat("0", 1000000), ""},
		{"an empty text is refused", "", ""},
		{"words are refused", "one", ""},
		{"a comma is refused", "1,5", ""},
		{"hexadecimal is refused", "0x10", ""},
		{"an underscore is refused", "1_000", ""},
		{"a space is refused", " 1", ""},
		{"a NUL byte is refused", "1\x00", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := price.Parse(tc.in)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("Parse = %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// What is taken is a plain number above zero, equal to what was sent.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"1824.53", "1e-7", "NaN", "Infinity", "-1", "0", "1e400", "+.5", "5."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := price.Parse(in)
		if err != nil {
			return
		}
		if strings.Trim(got, "0123456789.") != "" || len(got) > 82 {
			t.Fatalf("%q became %q", in, got)
		}
		sent, ok := new(big.Rat).SetString(in)
		kept, ok2 := new(big.Rat).SetString(got)
		if !ok || !ok2 || sent.Cmp(kept) != 0 || kept.Sign() <= 0 {
			t.Fatalf("%q became %q", in, got)
		}
		if again, err := price.Parse(got); err != nil || again != got {
			t.Fatalf("%q became %q, then %q: %v", in, got, again, err)
		}
	})
}
