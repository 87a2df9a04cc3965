package gains

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// Beancount books the lots of 200 random ledgers by FIFO, LIFO or chosen lots: the gains and what is left are ours. It
// orders by days only, so there is one trade a day, and it gets the proceeds as a total price.
func TestRealizedGainsAreThoseOfBeancount(t *testing.T) {
	check := program(t, "bean-check")
	query := program(t, "bean-query")
	const ledgers = 200
	random := rand.New(rand.NewPCG(7, 1))
	file := filepath.Join(t.TempDir(), "all.beancount")
	var text strings.Builder
	text.WriteString("option \"inferred_tolerance_default\" \"*:0.00000001\"\n1990-01-01 open Assets:Cash\n")
	gained, left := map[string]string{}, map[string]string{}
	for n := range ledgers {
		method := []lots.Method{lots.FIFO, lots.LIFO, Specific}[n%3]
		name := fmt.Sprintf("L%03d", n)
		booking := map[lots.Method]string{lots.FIFO: "FIFO", lots.LIFO: "LIFO", Specific: "STRICT"}[method]
		fmt.Fprintf(&text, "1990-01-01 open Assets:%s \"%s\"\n1990-01-01 open Income:%[1]s\n", name, booking)
		events := randomTrades(random, method, &text, name)
		b := book(t, name, Rules{Method: method}, events)
		sum, quantity := new(big.Int), new(big.Int)
		for _, p := range b.Parts() {
			sum.Add(sum, p.Gain)
		}
		for _, o := range b.Open() {
			quantity.Add(quantity, o.Quantity)
		}
		gained[name], left[name] = Money(sum), quantity.String()
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), check, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	ask := func(what, accounts string) map[string]string {
		out, err := exec.CommandContext(t.Context(), query, "-f", "csv", file,
			"select account, sum("+what+") where account ~ '"+accounts+":L' group by account").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		answer := map[string]string{}
		for _, m := range regexp.MustCompile(`:(L\d+)\s*,\s*(-?[\d.]+)`).FindAllStringSubmatch(string(out), -1) {
			answer[m[1]] = m[2]
		}
		return answer
	}
	incomes, quantities := ask("number", "Income"), ask("number", "Assets")
	for name := range gained {
		if incomes[name] == "" { // nothing was sold
			incomes[name] = "0"
		}
		want, ok := new(big.Rat).SetString(incomes[name])
		got, _ := new(big.Rat).SetString(gained[name])
		if !ok || got.Neg(got).Cmp(want) != 0 {
			t.Errorf("%s: gained %s, beancount's income is %q", name, gained[name], incomes[name])
		}
		units, ok := new(big.Rat).SetString(strings.TrimSpace(quantities[name]))
		own, _ := new(big.Rat).SetString(left[name])
		if !ok || units.Cmp(own) != 0 {
			t.Errorf("%s: left %s, beancount has %q", name, left[name], quantities[name])
		}
	}
	t.Logf("figure: %d random ledgers have the gains and the rest of beancount", len(gained))
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: apt-get install beancount): its gains are not compared with ours", name)
	}
	return path
}

// randomTrades are a trade a day of a token, in events and in beancount's language. Costs divide evenly by unit, since
// beancount has costs by unit.
func randomTrades(random *rand.Rand, method lots.Method, text *strings.Builder, name string) []Event {
	type lot struct {
		id   string
		day  string
		left int64
		unit int64
	}
	var held []lot
	var events []Event
	at := on(2020, 1, 1)
	for i := range 3 + random.IntN(30) {
		at = at.AddDate(0, 0, 1+random.IntN(20))
		day := at.Format(time.DateOnly)
		e := Event{Event: lots.Event{ID: fmt.Sprint(name, "-", i), Time: at}, Fact: Fact{Token: name, Cause: Swap}}
		have := int64(0)
		for _, l := range held {
			have += l.left
		}
		if have == 0 || random.IntN(5) < 3 {
			q, unit := 1+random.Int64N(1000), 1+random.Int64N(1_000_000_000_000)
			e.Kind, e.Quantity = lots.Acquire, big.NewInt(q)
			e.Value = new(big.Int).Mul(big.NewInt(unit), big.NewInt(q))
			held = append(held, lot{e.ID, day, q, unit})
			fmt.Fprintf(text, "%s *\n  Assets:%s  %d COIN {%s USD}\n  Assets:Cash\n", day, name, q,
				Money(big.NewInt(unit)))
			events = append(events, e)
			continue
		}
		q := 1 + random.Int64N(have)
		e.Kind, e.Quantity, e.Value = lots.Dispose, big.NewInt(q), big.NewInt(random.Int64N(1e15))
		fmt.Fprintf(text, "%s *\n", day)
		if method == Specific {
			rest := q
			for _, j := range random.Perm(len(held)) {
				l := &held[j]
				n := min(rest, l.left)
				if n == 0 {
					continue
				}
				e.Picks = append(e.Picks, lots.Pick{Lot: l.id, Quantity: big.NewInt(n)})
				fmt.Fprintf(text, "  Assets:%s  -%d COIN {%s USD, %s}\n", name, n, Money(big.NewInt(l.unit)), l.day)
				l.left -= n
				rest -= n
			}
		} else {
			fmt.Fprintf(text, "  Assets:%s  -%d COIN {}\n", name, q)
			take := func(l *lot, rest int64) int64 {
				n := min(rest, l.left)
				l.left -= n
				return rest - n
			}
			rest := q
			for j := range held {
				if method == lots.LIFO {
					j = len(held) - 1 - j
				}
				rest = take(&held[j], rest)
			}
		}
		fmt.Fprintf(text, "  Assets:Cash  %s USD\n  Income:%s\n", Money(e.Value), name)
		events = append(events, e)
	}
	return events
}
