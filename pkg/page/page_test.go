package page_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
)

type key struct {
	At time.Time
	ID string
	N  int64
}

func mustToken[K any](t testing.TB, q page.Query, k K) string {
	t.Helper()
	s, err := page.Token(q, k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func refused(err error) bool {
	e := errs.As(err)
	return e != nil && e.Kind == errs.KindInvalid && len(e.Violations) == 1 && e.Violations[0].Field == "page_token"
}

func TestAListWithARowMoreThanAPageHasANextPage(t *testing.T) {
	q := page.NewQuery("list")
	for rows, want := range map[int]int{0: 0, 2: 2, 3: 3, 4: 3} {
		onPage, next, err := page.Cut(q, []int{10, 20, 30, 40}[:rows], 3, func(n int) int { return n + 1 }, text)
		if err != nil || len(onPage) != want {
			t.Fatalf("%d rows: %v, %v", rows, onPage, err)
		}
		last, more, err := page.Parse[int](q, next)
		if err != nil || more != (rows > 3) || more && last != 31 {
			t.Errorf("%d rows: the next page is after %d, %t, %v", rows, last, more, err)
		}
	}
}

// text is the message of a row: as many bytes as its number.
func text(n int) *wrapperspb.StringValue { return wrapperspb.String(strings.Repeat("x", n)) }

func TestAPageEndsByBytesToo(t *testing.T) {
	const third = page.MaxBytes / 3
	q := page.NewQuery("list")
	for _, tc := range []struct {
		rows []int
		want int  // rows on the page
		more bool // there is another
	}{
		{[]int{third, third, third - 100}, 3, false},
		{[]int{third, third, third}, 2, true},
		{[]int{4 * third, 1}, 1, true}, // a row that is too large is alone
		{[]int{4 * third}, 1, false},
		{[]int{1, 4 * third, 1}, 1, true},
		{[]int{1, 1, 1, 1, 1}, 4, true},
	} {
		onPage, next, err := page.Cut(q, tc.rows, 4, func(n int) int { return n }, text)
		last, more, parseErr := page.Parse[int](q, next)
		if err != nil || parseErr != nil || len(onPage) != tc.want || more != tc.more ||
			more && last != tc.rows[tc.want-1] {
			t.Errorf("%v: %d rows, more: %t after %d, %v, %v", tc.rows, len(onPage), more, last, err, parseErr)
		}
	}
}

func TestAnyKeyComesBackFromItsToken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		q := page.NewQuery(rapid.SliceOf(rapid.String()).Draw(rt, "parts")...)
		k := key{
			At: time.Unix(rapid.Int64Range(0, 1<<33).Draw(rt, "s"),
				rapid.Int64Range(0, 999_999_999).Draw(rt, "ns")).UTC(),
			ID: rapid.String().Draw(rt, "id"), N: rapid.Int64().Draw(rt, "n"),
		}
		token := mustToken(t, q, k)
		got, ok, err := page.Parse[key](q, token)
		if err != nil || !ok || got != k {
			rt.Fatalf("%+v came back as %+v, %v, %v", k, got, ok, err)
		}
		if strings.ContainsAny(token, "+/=&?# ") {
			rt.Fatalf("the token %q needs escaping in a URL", token)
		}
	})
}

func TestATokenOfAnotherQueryIsRefusedByName(t *testing.T) {
	base := page.NewQuery("ListWallets", "user-a", "chain=1")
	token := mustToken(t, base, "k")
	for name, q := range map[string]page.Query{
		"of another method":               page.NewQuery("ListBalances", "user-a", "chain=1"),
		"of another caller":               page.NewQuery("ListWallets", "user-b", "chain=1"),
		"of another filter":               page.NewQuery("ListWallets", "user-a", "chain=2"),
		"with a part less":                page.NewQuery("ListWallets", "user-a"),
		"with a part more":                page.NewQuery("ListWallets", "user-a", "chain=1", ""),
		"with its parts joined otherwise": page.NewQuery("ListWalletsuser-a", "chain=1"),
		"with parts that imitate lengths": page.NewQuery("ListWallets6:user-a", "chain=1"),
		"without parts":                   {},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok, err := page.Parse[string](q, token); !refused(err) || ok || got != "" {
				t.Errorf("%q, %v, %v", got, ok, err)
			}
		})
	}
	if got, ok, err := page.Parse[string](page.NewQuery("ListWallets", "user-a", "chain=1"), token); err != nil ||
		!ok || got != "k" {
		t.Errorf("the same query refused its token: %q, %v, %v", got, ok, err)
	}
}

func TestDifferentPartsAreDifferentQueries(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.SliceOf(rapid.StringN(0, 4, 8))
		a, b := parts.Draw(rt, "a"), parts.Draw(rt, "b")
		if slices.Equal(a, b) != (page.NewQuery(a...) == page.NewQuery(b...)) {
			rt.Fatalf("%q and %q", a, b)
		}
	})
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	q := page.NewQuery("ListWallets", "user")
	token := mustToken(t, q, key{ID: "x", N: 7})
	digest := base64.RawURLEncoding.EncodeToString([]byte(mustDecode(t, token)[:8]))
	for name, bad := range map[string]string{
		"garbage":                 "garbage!",
		"one character":           "A",
		"only the digest":         digest,
		"a null key":              mustEncode(mustDecode(t, token)[:8] + "null"),
		"a key of another type":   mustEncode(mustDecode(t, token)[:8] + `"text"`),
		"two keys":                mustEncode(mustDecode(t, token)[:8] + `{}{}`),
		"padded base64":           token + "==",
		"a page number":           "2",
		"binary":                  "\x00\xff",
		"a very long nothing":     strings.Repeat("A", 1<<20),
		"with a half-written key": mustEncode(mustDecode(t, token)[:20]),
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok, err := page.Parse[key](q, bad); !refused(err) || ok || got != (key{}) {
				t.Errorf("%+v, %v, %v", got, ok, err)
			}
		})
	}
	if _, ok, err := page.Parse[key](q, ""); ok || err != nil {
		t.Errorf("no token is the first page, not %v, %v", ok, err)
	}
}

func TestTruncatedAndFlippedTokensNeverPassForAnotherQuery(t *testing.T) {
	q := page.NewQuery("ListWallets", "user")
	token := mustToken(t, q, "0190c0de-0000-7000-8000-000000000000")
	for i := range len(token) {
		if _, _, err := page.Parse[string](q, token[:i]); i > 0 && !refused(err) {
			t.Errorf("the first %d characters were taken: %v", i, err)
		}
	}
	raw := []byte(mustDecode(t, token))
	for bit := range 64 {
		flipped := append([]byte(nil), raw...)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, _, err := page.Parse[string](q, mustEncode(string(flipped))); !refused(err) {
			t.Errorf("bit %d of the digest doesn't matter", bit)
		}
	}
}

func TestAKeyThatCannotBeWrittenIsAnError(t *testing.T) {
	if s, err := page.Token(page.NewQuery(), func() {}); err == nil {
		t.Errorf("a function became the token %q", s)
	}
}

func TestSizeIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		asked int32
		want  int
	}{
		"none asked for takes the default":   {0, 50},
		"a negative one takes the default":   {-1, 50},
		"the least":                          {1, 1},
		"the most":                           {1000, 1000},
		"more than that is cut to the most":  {1001, 1000},
		"the greatest number is cut as well": {1<<31 - 1, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if got := page.Size(tt.asked, 50, 1000); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	q := page.NewQuery("ListWallets", "user")
	f.Add(mustToken(f, q, key{ID: "a", N: 1}))
	f.Add("")
	f.Add("null")
	f.Add(mustEncode(mustDecode(f, mustToken(f, q, 1))[:8] + `{"At":"0001-01-01T00:00:00Z","N":1e400}`))
	f.Fuzz(func(t *testing.T, token string) {
		got, ok, err := page.Parse[key](q, token)
		if err != nil && (!refused(err) || ok || got != (key{})) {
			t.Fatalf("%+v, %v, %v", got, ok, err)
		}
		if _, _, err := page.Parse[key](page.NewQuery("ListWallets", "another"), token); token != "" && ok &&
			!refused(err) {
			t.Fatalf("another caller's query took the token: %v", err)
		}
	})
}

func mustDecode(t testing.TB, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustEncode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
