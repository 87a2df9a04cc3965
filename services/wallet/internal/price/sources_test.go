package price_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// said is a feed that says what a test sets.
type said struct {
	name   string
	prices map[string]string
	past   map[string][]price.Price
	age    time.Duration
	err    error
	hangs  bool
	asked  int
}

func (s *said) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	s.asked++
	if s.hangs {
		<-ctx.Done()
		if !price.Failed(ctx, ctx.Err()) {
			return nil, errors.New("the caller has left")
		}
		return nil, context.Cause(ctx)
	}
	out := map[string]price.Price{}
	for _, t := range tokens {
		if value, has := s.prices[t.ID]; has {
			out[t.ID] = price.Price{Value: value, Source: s.name, At: noon().Add(-s.age)}
		}
	}
	return out, s.err
}

func (s *said) History(_ context.Context, tokens []token.Token, _ time.Time, _ int) (map[string][]price.Price, error) {
	s.asked++
	if s.err != nil {
		return nil, s.err
	}
	out := map[string][]price.Price{}
	for _, t := range tokens {
		out[t.ID] = s.past[t.ID]
	}
	return out, nil
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

type sourcesFixture struct {
	*price.Sources
	first, second, third *said
	log                  bytes.Buffer
	now                  time.Time
}

// newSources has three feeds.
func newSources(change func(*price.Policy)) *sourcesFixture {
	f := &sourcesFixture{now: noon(), first: &said{name: "first"}, second: &said{name: "second"},
		third: &said{name: "third"}}
	p := price.Policy{Refresh: 30 * time.Second, Stale: 2 * time.Hour, Bridge: 24 * time.Hour, Disagreement: 5,
		CompareEvery: 5 * time.Minute}
	if change != nil {
		change(&p)
	}
	f.Sources = price.NewSources([]price.NamedFeed{{Name: "first", Feed: f.first}, {Name: "second", Feed: f.second},
		{Name: "third", Feed: f.third}}, p, slog.New(slog.NewTextHandler(&f.log, nil)),
		func() time.Time { return f.now })
	return f
}

func (f *sourcesFixture) current(t *testing.T, last map[string]price.Price, ids ...string) (map[string]price.Price,
	error) {
	t.Helper()
	var tokens []token.Token
	for _, id := range ids {
		tokens = append(tokens, token.Token{ID: id})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	return f.Current(ctx, tokens, last)
}

func TestTheFirstSourceWithAGoodPriceWins(t *testing.T) {
	both := func(a, b string) func(*sourcesFixture) {
		return func(f *sourcesFixture) {
			f.first.prices, f.second.prices = map[string]string{"x": a}, map[string]string{"x": b}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*sourcesFixture)
		last   string
		want   string // value and source; "" for none
		failed bool
	}{
		{"both have it", both("5", "5.1"), "", "5 first", false},
		{"only the second has it", func(f *sourcesFixture) { f.second.prices = map[string]string{"x": "5"} }, "",
			"5 second", false},
		{"the first is stale", func(f *sourcesFixture) {
			both("4", "5")(f)
			f.first.age = 3 * time.Hour
		}, "", "5 second", false},
		{"both are stale", func(f *sourcesFixture) {
			both("4", "5")(f)
			f.first.age, f.second.age = 4*time.Hour, 3*time.Hour
		}, "", "5 second", false},
		{"the first fails", func(f *sourcesFixture) {
			both("4", "5")(f)
			f.first.err = errors.New("away")
		}, "", "5 second", false},
		{"the first fails and no other has it", func(f *sourcesFixture) { f.first.err = errors.New("away") }, "", "",
			true},
		{"nobody has it", func(*sourcesFixture) {}, "", "", false},
		{"the first hangs", func(f *sourcesFixture) {
			both("4", "5")(f)
			f.first.hangs = true
		}, "", "5 second", false},
		{"the first jumps by a million", both("5000000", "5.1"), "5", "5.1 second", false},
		{"the first jumps to a millionth", both("0.000005", "5.1"), "5", "5.1 second", false},
		{"only one has it, and it jumps", both("5000000", "0.000001"), "5", "", false},
		{"two agree that it jumped", both("5000000", "5000100"), "5", "5000000 first", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newSources(func(p *price.Policy) { p.CompareEvery = 0 })
			tc.change(f)
			last := map[string]price.Price{}
			if tc.last != "" {
				last["x"] = price.Price{Value: tc.last, Source: "first", At: noon().Add(-time.Hour)}
			}
			got, err := f.current(t, last, "x")
			text := strings.TrimSpace(got["x"].Value + " " + got["x"].Source)
			if text != tc.want || (err != nil) != tc.failed {
				t.Errorf("got %q, %v; want %q", text, err, tc.want)
			}
		})
	}
}

func TestEachTokenHasItsOwnSource(t *testing.T) {
	f := newSources(nil)
	f.first.prices = map[string]string{"a": "1"}
	f.second.prices = map[string]string{"b": "2"}
	f.third.err = errors.New("away")
	got, err := f.current(t, nil, "a", "b", "c")
	if err == nil {
		t.Error("c is said to have no price, although a source failed")
	}
	if got["a"].Source != "first" || got["b"].Source != "second" || len(got) != 2 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(f.log.String(), `price source failed" source=third`) {
		t.Errorf("logged %s", f.log.String())
	}
	asked := f.first.asked
	if _, err := f.current(t, nil, "c"); err == nil || f.first.asked != asked {
		t.Errorf("the first source is asked again at once for what it doesn't have: %v", err)
	}
}

func TestADisagreementIsTold(t *testing.T) {
	f := newSources(nil)
	f.first.prices = map[string]string{"a": "100", "b": "100", "c": "100"}
	f.second.prices = map[string]string{"a": "105", "b": "105.01", "c": "100"}
	f.third.prices = map[string]string{"c": "95.2"}
	others := func() map[string]string {
		t.Helper()
		got, err := f.current(t, nil, "a", "b", "c")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for id, p := range got {
			if p.Source != "first" || p.Value != "100" {
				t.Errorf("%s costs %+v", id, p)
			}
			if p.Other != nil {
				out[id] = p.Other.Source + " " + p.Other.Value
			}
		}
		return out
	}
	want := map[string]string{"b": "second 105.01", "c": "third 95.2"}
	if got := others(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := strings.Count(f.log.String(), "price sources disagree"); n != 2 {
		t.Errorf("told %d times: %s", n, f.log.String())
	}
	f.now = f.now.Add(time.Minute)
	if got := others(); !maps.Equal(got, want) || f.second.asked != 1 || f.third.asked != 1 {
		t.Errorf("within the interval: %v, the others were asked %d and %d times", got, f.second.asked,
			f.third.asked)
	}
	if n := strings.Count(f.log.String(), "price sources disagree"); n != 2 {
		t.Errorf("told again: %s", f.log.String())
	}
	f.now, f.second.prices["b"] = f.now.Add(5*time.Minute), "101"
	delete(want, "b")
	if got := others(); !maps.Equal(got, want) || f.second.asked != 2 {
		t.Errorf("after the interval: %v", got)
	}
}

// A source that hangs costs a call no more than a second when the price is known.
func TestASlowSourceHoldsUpNoPrice(t *testing.T) {
	f := newSources(nil)
	f.first.prices = map[string]string{"a": "100"}
	f.second.hangs = true
	begun := time.Now()
	got, err := f.current(t, nil, "a")
	if took := time.Since(begun); err != nil || got["a"].Value != "100" || took > 2*time.Second {
		t.Errorf("%+v, %v after %s", got, err, took)
	}
}

func hourly(name string, from, until int, value string) (out []price.Price) {
	for h := from; h < until; h++ {
		out = append(out, price.Price{Value: value, Source: name, At: noon().Add(time.Duration(h) * time.Hour)})
	}
	return out
}

func TestPastPricesAreOfTheFirstSourceThatHasThem(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*sourcesFixture)
		want   string // the source of each hour from noon on
		failed bool
	}{
		{"the first has all", func(f *sourcesFixture) {
			f.first.past = map[string][]price.Price{"x": hourly("first", 0, 6, "1")}
			f.second.past = map[string][]price.Price{"x": hourly("second", 0, 6, "1")}
		}, "1 1 1 1 1 1", false},
		{"the first has a gap", func(f *sourcesFixture) {
			f.first.past = map[string][]price.Price{"x": hourly("first", 0, 1, "1")}
			f.second.past = map[string][]price.Price{"x": hourly("second", 0, 6, "1")}
		}, "1 1 1 2 2 2", false}, // two hours later it is stale
		{"only the second has it", func(f *sourcesFixture) {
			f.second.past = map[string][]price.Price{"x": hourly("second", 0, 6, "1")}
		}, "2 2 2 2 2 2", false},
		{"the first fails", func(f *sourcesFixture) {
			f.first.err = errors.New("away")
			f.second.past = map[string][]price.Price{"x": hourly("second", 0, 6, "1")}
		}, "2 2 2 2 2 2", false},
		{"the first fails and no other has it", func(f *sourcesFixture) { f.first.err = errors.New("away") }, "",
			true},
		{"nobody has it", func(*sourcesFixture) {}, "- - - - - -", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newSources(nil)
			tc.change(f)
			found, err := f.History(t.Context(), []token.Token{{ID: "x"}}, noon().Add(-2*time.Hour), 8)
			if (err != nil) != tc.failed {
				t.Fatal(err)
			}
			var got []string
			if prices, read := found["x"]; read {
				for h := range 6 {
					p, _ := price.LastAt(prices, noon().Add(time.Duration(h)*time.Hour), 2*time.Hour)
					got = append(got, map[string]string{"first": "1", "second": "2"}[p.Source])
					if got[h] == "" {
						got[h] = "-"
					}
				}
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%v, want %s", got, tc.want)
			}
			if tc.want == "1 1 1 1 1 1" && f.second.asked != 0 {
				t.Error("the second was asked for what the first has")
			}
		})
	}
}

// A feed on chain states that a price holds until its heartbeat.
func TestAPriceIsFreshForAsLongAsItsSourceStates(t *testing.T) {
	p := price.Price{Value: "1", At: noon(), GoodFor: 24 * time.Hour}
	if p.StaleAt(noon().Add(24*time.Hour), time.Hour) || !p.StaleAt(noon().Add(24*time.Hour+1), time.Hour) {
		t.Error("not as its source states")
	}
	p.GoodFor = 30 * time.Minute // a feed that missed its heartbeat
	if !p.StaleAt(noon().Add(time.Hour), time.Hour) {
		t.Error("longer than its source states")
	}
	p.GoodFor = 0
	if !slices.Equal([]bool{p.StaleAt(noon().Add(time.Hour), time.Hour), p.StaleAt(noon().Add(time.Hour+1),
		time.Hour)}, []bool{false, true}) {
		t.Error("not as the policy states")
	}
}
