package authn_test

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/authn"
)

// What the short way accepts, the long way accepts too: it only saves time.
func TestTheShortWayAcceptsNothingThatTheLongWayRefuses(t *testing.T) {
	read := []string{"exp", "sub", "kid", "attributes"}
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, ` `, "\n", `"`, `"exp"`, `"sub"`, `"Sub"`, `"kid"`, `"KID"`,
		`"crit"`, `"a"`, `"A"`, `"\u0061"`, `"ſub"`, `"K"`, `1`, `0`, `01`, `-1`, `1.5`, `1e3`, `true`, `null`, `nul`,
		`"x":1`, `"x":{"y":[1,"2"]}`, `"attributes":{"a":"1","b":"2"}`, "\x00", "\xff", `\`}
	short, long := 0, 0
	check := func(text string) {
		plain := authn.Plainly([]byte(text), read, []string{"exp"}, []string{"crit"})
		decoded := authn.ByDecoding([]byte(text), read, []string{"exp"}, []string{"crit"}) == nil
		if plain && !decoded {
			t.Fatalf("%q", text)
		}
		if plain && !json.Valid([]byte(text)) {
			t.Fatalf("%q is no JSON", text)
		}
		if plain {
			short++
		}
		if decoded {
			long++
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 30_000 {
		var b strings.Builder
		b.WriteString("{")
		for range random.IntN(5) { // members, mostly well formed, of any names and values
			if random.IntN(10) > 0 {
				name := pieces[9+random.IntN(11)]
				b.WriteString(name + ":" + pieces[20+random.IntN(9)] + ",")
			} else {
				b.WriteString(pieces[random.IntN(len(pieces))])
			}
		}
		b.WriteString(pieces[random.IntN(len(pieces))])
		b.WriteString("}")
		text := b.String()
		check(text)
		check(strings.Replace(text, ",", "", 1))
		check(strings.TrimSuffix(strings.TrimSuffix(text, "}"), ",") + "}")
	}
	if short < 300 || long < 300 {
		t.Errorf("%d and %d were accepted: too few to say anything", short, long)
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"a":1}x`, `{"a":1}{"a":1}`, `{"a":1,}`, `{,}`, `{"a"}`,
		`{"a":}`, `{"a":[}`, `{"a":[1,]}`, `{"a":tru}`, `{"a":1`, `{"a`, "{\"a\":1}\x00", `{"a":00}`,
		`{"a":"` + "\n" + `"}`, strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)} {
		check(text)
	}
}

// The tokens that issuers make go the short way: otherwise it saves nothing.
func TestAnIssuersTokenGoesTheShortWay(t *testing.T) {
	signers, _ := newSigners(t)
	ed := signers["ed"]
	token := sign(t, ed.method, ed.private, "ed", claims(noon, map[string]any{"auth_time": noon.Unix(),
		"attributes": map[string]string{"region": "eu"}, "amr": []string{"pwd", "otp"}}), nil)
	for i, part := range strings.Split(token, ".")[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		fail(t, err)
		if !authn.Plainly(text, []string{"sub", "exp", "kid"}, []string{"exp"}, []string{"crit"}) {
			t.Errorf("part %d doesn't: %s", i, text)
		}
	}
}
