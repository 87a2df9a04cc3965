package export_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/portfolio/internal/export"
)

// No text from outside is a formula, a number, a date or a time to a spreadsheet of any language; other text and
// numbers are as they were.
func TestTextThatASpreadsheetWouldChangeIsGuarded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "\nx": "'\nx", " =x": "' =x",
		"=HYPERLINK(A)": "'=HYPERLINK(A)", "-x": "'-x", "＝x": "'＝x", "+": "'+",
		"1": "'1", "007": "'007", "0.125": "'0.125", "1,5": "'1,5", "1.234,5": "'1.234,5", "1'000": "'1'000",
		"1 000": "'1 000", "12E4": "'12E4", "1E999": "'1E999", ".5": "'.5", ",5": "',5", "5%": "'5%", "$5": "'$5",
		"€ 5": "'€ 5", "(5)": "'(5)", "0x1": "'0x1", "１２": "'１２", "٣": "'٣",
		"MAR1": "'MAR1", "1/2": "'1/2", "SEPT2": "'SEPT2", "1-MAR": "'1-MAR", "2024-01-01": "'2024-01-01",
		"1. Mai": "'1. Mai", "12:30": "'12:30", "5 PM": "'5 PM", "UNI-V2": "'UNI-V2",
		"": "", "ETH": "ETH", "USD Coin": "USD Coin", "aEthUSDC": "aEthUSDC", "E": "E", "a=b": "a=b", "MAR": "MAR",
		"токен": "токен", "\xff": "\xff",
	} {
		for _, format := range []export.Format{export.CSV, export.CSVSemicolon} {
			var out bytes.Buffer
			table, err := export.NewTable(format, &out, []export.Column{export.NewColumn("id", export.ID),
				export.NewColumn("text", export.Text), export.NewColumn("number", export.Number)})
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			if err := table.Row([]any{"eip155:1", text, "-0.5000"}); err != nil {
				t.Fatal(err)
			}
			if err := table.Finish(); err != nil {
				t.Fatal(err)
			}
			r, number := csv.NewReader(&out), "-0.5000"
			if format == export.CSVSemicolon {
				r.Comma, number = ';', "-0,5000"
			}
			lines, err := r.ReadAll()
			if err != nil || len(lines) != 2 || lines[1][0] != "eip155:1" || lines[1][1] != want ||
				lines[1][2] != number {
				t.Errorf("%q in format %d is %q, %v; want %q", text, format, lines, err, want)
			}
		}
	}
}

// A spreadsheet that takes the other separator for its own divides texts at it. None of the parts is a formula.
func TestATextIsNoFormulaAfterAnotherSeparator(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		format export.Format
		other  string // the separator of another language
	}{{export.CSV, ";"}, {export.CSVSemicolon, ","}} {
		for _, formula := range []string{"=1+1", " =1+1", "\u00a0+1", "\"=1+1", "@x", "-x", "\n=1+1", "＝1+1",
			"\r\n-x"} {
			var out bytes.Buffer
			table, err := export.NewTable(tc.format, &out, []export.Column{export.NewColumn("text", export.Text)})
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			if err := errors.Join(table.Row([]any{"a" + tc.other + formula}), table.Finish()); err != nil {
				t.Fatal(err)
			}
			divide := func(r rune) bool { return strings.ContainsRune(tc.other+"\r\n", r) }
			for _, part := range strings.FieldsFunc(out.String(), divide) {
				if begin := strings.TrimLeft(part, " \u00a0\""); strings.IndexAny(begin, "=+-@＝＋－＠") == 0 {
					t.Errorf("%q divided at %q has the cell %q", out.String(), tc.other, part)
				}
			}
		}
	}
}
