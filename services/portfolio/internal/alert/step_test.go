package alert_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/alert"
)

func decimal(t testing.TB, text string) *apd.Decimal {
	t.Helper()
	d, _, err := apd.NewFromString(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// newRule defines a rule.
func newRule(t testing.TB, k alert.Kind, d alert.Definition) *alert.Rule {
	t.Helper()
	r := &alert.Rule{Kind: k}
	if d.Name == "" {
		d.Name = "rule"
	}
	if k.HasToken() && d.Token == "" {
		d.Token = "eip155:1/slip44:60"
	}
	if err := r.Define(d); err != nil {
		t.Fatal(err)
	}
	return r
}

// start is when rules are evaluated first.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// steps makes a step each two minutes, and returns which of the observations the rule fired at.
func steps(r *alert.Rule, observations ...alert.Observation) (fired []int) {
	for i, s := range observations {
		next, _, fires := r.Step(s, start.Add(2*time.Duration(i)*time.Minute))
		if r.State = next; fires {
			fired = append(fired, i)
		}
	}
	return fired
}

func figures(t testing.TB, texts ...string) (observations []alert.Observation) {
	t.Helper()
	for _, text := range texts {
		s := alert.Observation{}
		if text != "" {
			s.Figure = decimal(t, text)
		}
		observations = append(observations, s)
	}
	return observations
}

func TestARuleFiresOnceForEachCrossing(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   alert.Kind
		def    alert.Definition
		seen   []string
		firing []int
	}{
		"below, and back by 2 %": {alert.PriceBelow, alert.Definition{Limit: "2000"},
			[]string{"2001", "1999.99", "2039.99", "1990", "2040", "1999", "2000"}, []int{1, 5}},
		"at the limit is not below it": {alert.HealthBelow, alert.Definition{Limit: "1.5"},
			[]string{"1.5", "1.499999999999999999"}, []int{1}},
		"above, and back by 2 %": {alert.PriceAbove, alert.Definition{Limit: "100"},
			[]string{"100", "100.01", "98.01", "101", "98", "100.5"}, []int{1, 5}},
		"past it at the first look": {alert.DrawdownAbove, alert.Definition{Limit: "0.1"},
			[]string{"0.2", "0.3"}, []int{0}},
		"without hysteresis": {alert.PriceAbove, alert.Definition{Limit: "100", Hysteresis: "0"},
			[]string{"101", "100", "101", "100.1", "99"}, []int{0, 2}},
		"a change in either direction": {alert.ValueChange,
			alert.Definition{Limit: "0.1", Window: time.Hour, Hysteresis: "0.5"},
			[]string{"-0.11", "-0.06", "0.12", "0.05", "0.12"}, []int{0, 4}},
		"what isn't known changes nothing": {alert.PriceBelow, alert.Definition{Limit: "10"},
			[]string{"9", "", "9", "11", "", "9"}, []int{0, 5}},
		"an age": {alert.PriceAge, alert.Definition{Window: time.Hour},
			[]string{"3600", "3601", "3529", "3700", "3528", "3601"}, []int{1, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := steps(newRule(t, tc.kind, tc.def), figures(t, tc.seen...)...); !slices.Equal(got, tc.firing) {
				t.Errorf("it fired at %v, want %v", got, tc.firing)
			}
		})
	}
}

// A price that moves within the hysteresis around a limit is one alert, however it moves. The control has none, and
// fires again and again.
func TestAFlappingFigureFiresOnce(t *testing.T) {
	count := func(hysteresis string) int {
		r := newRule(t, alert.PriceBelow, alert.Definition{Limit: "2000", Hysteresis: hysteresis})
		random := rand.New(rand.NewPCG(1, 2))
		var seen []alert.Observation
		for range 1000 {
			seen = append(seen, alert.Observation{Figure: apd.New(199_000+random.Int64N(2000), -2)}) // 1990 to 2009.99
		}
		return len(steps(r, seen...))
	}
	if n := count("0.02"); n != 1 {
		t.Errorf("it fired %d times, want once", n)
	}
	if n := count("0"); n < 100 {
		t.Errorf("without hysteresis it fired %d times: nothing was proven", n)
	}
}

// A figure that swings beyond the hysteresis each second fires once a minute, and what is still past the limit then.
func TestARuleFiresAtMostOnceAMinute(t *testing.T) {
	r := newRule(t, alert.PriceBelow, alert.Definition{Limit: "100"})
	fired := 0
	for i := range 600 {
		figure := apd.New(50, 0)
		if i%2 == 1 {
			figure = apd.New(150, 0)
		}
		next, _, fires := r.Step(alert.Observation{Figure: figure}, start.Add(time.Duration(i)*time.Second))
		if r.State = next; fires {
			fired++
		}
	}
	if fired != 10 {
		t.Errorf("it fired %d times in 10 minutes, want 10", fired)
	}
}

// What is told as the highest that a figure can be fires a rule, and arms none.
func TestAnUpperBoundArmsNothing(t *testing.T) {
	r := newRule(t, alert.HealthBelow, alert.Definition{Limit: "1.5"})
	low := alert.Observation{Figure: decimal(t, "1.2"), UpperBound: true}
	got := steps(r, low, alert.Observation{Figure: decimal(t, "9"), UpperBound: true},
		alert.Observation{Figure: decimal(t, "1.2")}, alert.Observation{NotApplicable: true},
		alert.Observation{Figure: decimal(t, "1.2")})
	if !slices.Equal(got, []int{0, 4}) {
		t.Errorf("it fired at %v, want at 0, and at 4 after the debts were gone", got)
	}
}

func TestWhatIsMissingAges(t *testing.T) {
	r := newRule(t, alert.WalletAge, alert.Definition{Window: 5 * time.Minute})
	fresh, missing := alert.Observation{Figure: apd.New(1, 0)}, alert.Observation{Figure: apd.New(1, 0), Missing: true}
	got := steps(r, fresh, missing, missing, missing, missing, fresh, missing, missing)
	if !slices.Equal(got, []int{4}) {
		t.Errorf("it fired at %v, want at 4, six minutes after the first look without", got)
	}
}

func TestATransferIsADifferenceOfAmounts(t *testing.T) {
	at := func(amount string, membership int) alert.Observation {
		return alert.Observation{Figure: decimal(t, amount), Membership: membership, Decimals: 6}
	}
	r := newRule(t, alert.Transfer, alert.Definition{Limit: "100"})
	seen := []alert.Observation{at("5000000", 1), at("105000000", 1), at("205000001", 1), {}, at("1", 1),
		at("900000000", 2), at("901000000", 2), {Figure: new(apd.Decimal), Membership: 2}}
	var moved []string
	for i, s := range seen {
		next, _, fires := r.Step(s, start.Add(2*time.Duration(i)*time.Minute))
		if r.State = next; fires {
			moved = append(moved, next.Figure)
		}
	}
	// 100.000000 is the limit and not more; what another wallet brings is no transfer; at the end all of it left.
	if want := []string{"100.000001", "-205.000000", "-901.000000"}; !slices.Equal(moved, want) {
		t.Errorf("moved %v, want %v", moved, want)
	}
}

// Two transfers within a minute: the second one is told when the minute is over, with all that moved since.
func TestATransferSoonAfterAnotherIsNotLost(t *testing.T) {
	r := newRule(t, alert.Transfer, alert.Definition{Limit: "10"})
	var moved []string
	for i, amount := range []string{"0", "20", "40", "45", "45"} {
		next, _, fires := r.Step(alert.Observation{Figure: decimal(t, amount), Membership: 1},
			start.Add(time.Duration(i)*25*time.Second))
		if r.State = next; fires {
			moved = append(moved, next.Figure)
		}
	}
	if want := []string{"20", "25"}; !slices.Equal(moved, want) {
		t.Errorf("moved %v, want %v", moved, want)
	}
}

func TestADefinitionIsCheckedWhole(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   alert.Kind
		def    alert.Definition
		fields []string
	}{
		"nothing": {alert.PriceAbove, alert.Definition{}, []string{"name", "limit", "token_id"}},
		"too much": {alert.WalletAge, alert.Definition{Name: "x", Limit: "1", Token: "a:1/b:2", Window: time.Second,
			Hysteresis: "0.6"}, []string{"limit", "token_id", "window", "hysteresis"}},
		"no numbers": {alert.HealthBelow, alert.Definition{Name: "x", Limit: "1e3", Hysteresis: "-1"},
			[]string{"limit", "hysteresis"}},
		"zero, and a window": {alert.HealthBelow, alert.Definition{Name: "x", Limit: "0.0", Window: time.Hour},
			[]string{"limit", "window"}},
		"more than all": {alert.DrawdownAbove, alert.Definition{Name: "x", Limit: "1.01"}, []string{"limit"}},
		"parts of a second": {alert.PriceAge, alert.Definition{Name: "x", Token: "a:1/b:2", Window: time.Minute + 1},
			[]string{"window"}},
		"hysteresis of a transfer": {alert.Transfer, alert.Definition{Name: "x", Limit: "1", Token: "a:1/b:2",
			Hysteresis: "0.1"}, []string{"hysteresis"}},
		"fine": {alert.ValueChange, alert.Definition{Name: "x", Limit: "0.000000000000000001", Window: time.Hour,
			Hysteresis: "0.5"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := alert.Rule{Kind: tc.kind}
			wantFields(t, r.Define(tc.def), tc.fields)
		})
	}
}
