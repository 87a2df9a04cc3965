package authn_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// signText signs a header and claims as they are written.
func signText(t testing.TB, s signer, header, claims string) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(claims))
	sig := ed25519.Sign(s.private.(ed25519.PrivateKey), []byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestATokenThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	signers, ring := newSigners(t)
	const header = `{"alg":"EdDSA","typ":"at+jwt","kid":"ed"}`
	headed := func(more string) string { return strings.TrimSuffix(header, "}") + "," + more + "}" }
	text, err := json.Marshal(claims(noon, nil))
	fail(t, err)
	good := string(text)
	with := func(more string) string { return strings.TrimSuffix(good, "}") + "," + more + "}" }
	change := func(old, replacement string) string {
		changed := strings.Replace(good, old, replacement, 1)
		if changed == good {
			t.Fatalf("%q is not in %s", old, good)
		}
		return changed
	}
	quoted := func(claim string) string {
		return regexp.MustCompile(`"`+claim+`":(\d+)`).ReplaceAllString(good, `"`+claim+`":"$1"`)
	}
	named := func(id uuid.UUID, form string) string { return change(id.String(), form) }
	const other = "0190c0de-0000-7000-8000-000000000009"
	for name, tc := range map[string]struct{ header, claims, says string }{
		"sub twice":                        {header, with(`"sub":"` + other + `"`), "stands twice"},
		"sub twice, the same":              {header, with(`"sub":"` + user.String() + `"`), "stands twice"},
		"sub twice, once escaped":          {header, with(`"\u0073ub":"` + other + `"`), "stands twice"},
		"exp twice":                        {header, with(`"exp":99999999999`), "stands twice"},
		"a claim that we don't read twice": {header, with(`"x":1,"x":2`), "stands twice"},
		"an attribute twice":               {header, with(`"attributes":{"a":"1","a":"2"}`), "stands twice"},
		"SUB beside sub":                   {header, with(`"SUB":"` + other + `"`), `"SUB" and "sub"`},
		"Sub alone":                        {header, change(`"sub"`, `"Sub"`), `"Sub" and "sub"`},
		"Permissions alone":                {header, change(`"permissions"`, `"Permissions"`), "differs only in case"},
		"an s that is long":                {header, change(`"sub"`, `"ſub"`), "differs only in case"},
		"names that we don't read":         {header, with(`"more":1,"More":2`), `"More" and "more"`},
		"kid twice":                        {headed(`"kid":"ed"`), good, "stands twice"},
		"KID beside kid":                   {headed(`"KID":"ed"`), good, `"KID" and "kid"`},
		"b64 without crit":                 {headed(`"b64":true`), good, "b64"},
		"b64 of false without crit":        {headed(`"b64":false`), good, "b64"},
		"b64 with crit":                    {headed(`"b64":true,"crit":["b64"]`), good, "crit"},
		"an empty crit":                    {headed(`"crit":[]`), good, "crit"},
		"crit that is null":                {headed(`"crit":null`), good, "crit"},
		"another crit":                     {headed(`"crit":["exp"],"exp":1`), good, "crit"},
		"exp in quotes":                    {header, quoted("exp"), "exp must be a number"},
		"iat in quotes":                    {header, quoted("iat"), "iat must be a number"},
		"nbf in quotes":                    {header, quoted("nbf"), "nbf must be a number"},
		"nbf that is null":                 {header, change(`"nbf":1772366400`, `"nbf":null`), "nbf must be a number"},
		"auth_time in quotes":              {header, with(`"auth_time":"1772366400"`), "auth_time must be a number"},
		"a sub in capitals":                {header, named(user, strings.ToUpper(user.String())), "sub is no user id"},
		"a sub that is a URN":              {header, named(user, "urn:uuid:"+user.String()), "sub is no user id"},
		"a sub in braces":                  {header, named(user, "{"+user.String()+"}"), "sub is no user id"},
		"a sub without hyphens": {header, named(user, strings.ReplaceAll(user.String(), "-", "")),
			"sub is no user id"},
		"a sid in capitals": {header, named(session, strings.ToUpper(session.String())), "sid is no session id"},
		"claims of null":    {header, "null", "not as this deployment issues"},
		"claims of a list":  {header, "[" + good + "]", "not as this deployment issues"},
		"two claims sets":   {header, good + good, "not as this deployment issues"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := verifier(ring).Verify(t.Context(), signText(t, signers["ed"], tc.header, tc.claims))
			if reasonOf(err) != "TOKEN_INVALID" || !errs.Is(err, errs.KindUnauthenticated) || !c.Anonymous() {
				t.Fatalf("%+v %v", c, err)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("it says %q, want %q", err, tc.says)
			}
		})
	}
	for name, claims := range map[string]string{ // the controls
		"as it is": good, "with other claims": with(`"x":{"sub":"a"},"SUBJECT":1,"exp2":"1"`),
		"attributes that differ in case": with(`"attributes":{"a":"1","A":"2"}`),
		"times with a fraction":          change(`"iat":1772366400`, `"iat":1772366400.5`),
	} {
		c, err := verifier(ring).Verify(t.Context(), signText(t, signers["ed"], header, claims))
		if err != nil || c.UserID != user {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

func TestAKeySetWithANameTwiceIsRefused(t *testing.T) {
	one := string(jwks(t, map[string]any{"a": publicKey(t)}))
	two := string(jwks(t, map[string]any{"b": publicKey(t)}))
	for name, document := range map[string]string{
		"keys twice": strings.TrimSuffix(one, "}") + "," + two[1:],
		"Keys":       strings.Replace(one, `"keys"`, `"Keys"`, 1),
		"kid twice":  strings.Replace(one, `"kid":"a"`, `"kid":"a","kid":"b"`, 1),
	} {
		if document == one {
			t.Error(name, "changes nothing")
		}
		if keys, err := authn.ParseKeySet([]byte(document)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
	if keys, err := authn.ParseKeySet([]byte(one)); err != nil || len(keys) != 1 {
		t.Error(keys, err)
	}
}
