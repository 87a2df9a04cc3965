package performance_test

import (
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
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

// randomYears are histories of a year, some of ordinary sizes and flows, by a seed.
func randomYears(n int) map[string][]mark {
	random := rand.New(rand.NewPCG(2026, 11))
	years := map[string][]mark{}
	for i := range n {
		at, cents := on(2001+random.IntN(25), 1, 1+random.IntN(28)), 100_00+random.Int64N(100_000_00)
		money := func(cents int64) string { return big.NewRat(cents, 100).FloatString(2) }
		list := []mark{{at, money(cents), ""}}
		for day := 1 + random.IntN(60); day <= 365; day += 1 + random.IntN(60) {
			cents = cents*(80+random.Int64N(45))/100 + random.Int64N(100)
			flow := int64(0)
			if random.IntN(2) == 0 {
				flow = random.Int64N(cents) - cents/3
			}
			cents += flow
			list = append(list, mark{at.AddDate(0, 0, day), money(cents), money(flow)})
		}
		if len(list) > 1 {
			years[fmt.Sprintf("year %03d", i)] = list
		}
	}
	return years
}

// LibreOffice's XIRR: actual/365 over dates.
func TestMoneyWeightedReturnsAreThoseOfRealLibreOffice(t *testing.T) {
	soffice := program(t, "soffice", "libreoffice-calc-nogui")
	cases := randomYears(200)
	maps.Copy(cases, oracleCases())
	names := slices.Sorted(maps.Keys(cases))
	dir, rows := t.TempDir(), 0
	var sheet, formulas strings.Builder
	for _, name := range names {
		list, first := cases[name], rows+1
		row := func(at time.Time, money *big.Rat) {
			rows++
			fmt.Fprintf(&sheet, "%s,%s\n", money.FloatString(6), at.Format(time.DateOnly))
		}
		row(list[0].at, new(big.Rat).Neg(number(t, list[0].worth)))
		for _, m := range list[1:] {
			row(m.at, new(big.Rat).Neg(number(t, m.flow)))
		}
		row(list[len(list)-1].at, number(t, list[len(list)-1].worth))
		fmt.Fprintf(&formulas, "\"=TEXT(XIRR(A%d:A%d,B%[1]d:B%[2]d),\"\"0.0000000000\"\")\",\n", first, rows)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.csv"), []byte(sheet.String()+formulas.String()), 0o600); err != nil {
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
	if len(lines) != rows+len(names) {
		t.Fatalf("%d lines of %d", len(lines), rows+len(names))
	}
	for i, name := range names {
		rate, err := strconv.ParseFloat(strings.Trim(lines[rows+i], "\",\r"), 64)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want(t, name+": the rate", measure(t, cases[name]...).MoneyWeighted.Annualized, rate, 8)
	}
	testkit.Figure(t, "%d money-weighted returns are those of LibreOffice's XIRR to 8 digits", len(names))
}

// hledger's roi: gains of a date before its flows, as here; "Total TWR" isn't annualised.
func TestTimeWeightedReturnsAreThoseOfRealHledger(t *testing.T) {
	hledger := program(t, "hledger", "hledger")
	cases := randomYears(testkit.Size(20, 200))
	maps.Copy(cases, oracleCases())
	for name, list := range cases {
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
		want(t, name+": the return in per cent", period, percent, 2)
	}
	testkit.Figure(t, "%d time-weighted returns are those of hledger's roi to 0.01 %%", len(cases))
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
