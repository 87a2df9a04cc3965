package performance_test

import (
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oracleCases are ordinary histories, on whole dates. LibreOffice needs each rate above about -99 % a year.
func oracleCases() map[string][]mark {
	return map[string][]mark{
		"the CFA slides": {{on(2013, 1, 1), "100", ""}, {on(2014, 1, 1), "240", "118"}, {on(2015, 1, 1), "264", ""}},
		"a month":        {{on(2026, 1, 1), "100", ""}, {on(2026, 2, 1), "110", ""}},
		"a loss": {
			{on(2024, 2, 29), "1000", ""}, {on(2024, 9, 1), "300", "-200"}, {on(2025, 6, 30), "260", ""},
		},
		"many flows": {
			{on(2020, 1, 1), "5000", ""}, {on(2020, 3, 20), "3900", "500"}, {on(2020, 12, 31), "7000.5", "-250.25"},
			{on(2021, 11, 8), "15000", "3000"}, {on(2022, 11, 9), "4100", "-1000"},
			{on(2024, 3, 14), "19000", "4000"}, {on(2026, 11, 28), "21500", ""},
		},
	}
}

func program(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: apt-get install %s): its figures are not compared with ours", name,
			debian)
	}
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// LibreOffice's XIRR: actual/365 over dates.
func TestMoneyWeightedReturnsAreThoseOfLibreOffice(t *testing.T) {
	soffice := program(t, "soffice", "libreoffice-calc-nogui")
	for name, list := range oracleCases() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var sheet strings.Builder
			row := func(at time.Time, money *big.Rat) {
				fmt.Fprintf(&sheet, "%s,%s\n", money.FloatString(6), at.Format(time.DateOnly))
			}
			row(list[0].at, new(big.Rat).Neg(number(t, list[0].worth)))
			for _, m := range list[1:] {
				row(m.at, new(big.Rat).Neg(number(t, m.flow)))
			}
			row(list[len(list)-1].at, number(t, list[len(list)-1].worth))
			fmt.Fprintf(&sheet, "\"=TEXT(XIRR(A1:A%d,B1:B%[1]d),\"\"0.0000000000\"\")\",\n", len(list)+1)
			if err := os.WriteFile(filepath.Join(dir, "in.csv"), []byte(sheet.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, soffice, "-env:UserInstallation=file://"+filepath.Join(dir, "profile"), "--headless",
				"--infilter=CSV:44,34,76,1,,1033", "--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76",
				"--outdir", filepath.Join(dir, "out"), filepath.Join(dir, "in.csv"))
			answer, err := os.ReadFile(filepath.Join(dir, "out", "in.csv"))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(answer)), "\n")
			rate, err := strconv.ParseFloat(strings.Trim(lines[len(lines)-1], "\",\r"), 64)
			if err != nil {
				t.Fatalf("%v in\n%s", err, answer)
			}
			want(t, "the rate", measure(t, list...).MoneyWeighted.Annualized, rate, 8)
		})
	}
}

// hledger's roi: gains of a date before its flows, as here; "Total TWR" isn't annualised.
func TestTimeWeightedReturnsAreThoseOfHledger(t *testing.T) {
	hledger := program(t, "hledger", "hledger")
	for name, list := range oracleCases() {
		t.Run(name, func(t *testing.T) {
			var journal strings.Builder
			post := func(at time.Time, account string, money *big.Rat) {
				fmt.Fprintf(&journal, "%s x\n  assets:fund  %s\n  %s\n\n", at.Format(time.DateOnly),
					money.FloatString(6), account)
			}
			worth := number(t, list[0].worth)
			post(list[0].at, "equity", worth)
			for _, m := range list[1:] {
				after, flow := number(t, m.worth), number(t, m.flow)
				gain := new(big.Rat).Sub(after, flow)
				post(m.at, "income:pnl", gain.Sub(gain, worth))
				if flow.Sign() != 0 {
					post(m.at, "equity", flow)
				}
				worth = after
			}
			file := filepath.Join(t.TempDir(), "t.journal")
			if err := os.WriteFile(file, []byte(journal.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			out := run(t, hledger, "-f", file, "roi", "--inv", "assets:fund", "--pnl", "income:pnl", "--cashflow",
				"-b", list[0].at.Format(time.DateOnly),
				"-e", list[len(list)-1].at.AddDate(0, 0, 1).Format(time.DateOnly))
			total := regexp.MustCompile(`Total TWR: (-?[\d.]+)%`).FindStringSubmatch(out)
			if total == nil {
				t.Fatal(out)
			}
			percent, err := strconv.ParseFloat(strings.TrimSuffix(total[1], "."), 64)
			if err != nil {
				t.Fatal(err)
			}
			period := measure(t, list...).TimeWeighted.Period
			period.Figure *= 100
			want(t, "the return in per cent", period, percent, 2)
		})
	}
}

func number(t *testing.T, text string) *big.Rat {
	t.Helper()
	if text == "" {
		return new(big.Rat)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is no number", text)
	}
	return r
}
