package password_test

import (
	"context"
	"strings"
	"testing"

	"github.com/alexedwards/argon2id"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/password"
)

func TestOnePasswordHasOneFormHoweverItIsTyped(t *testing.T) {
	for name, tc := range map[string]struct{ typed, normal string }{
		"ASCII stays":                          {"Correct Horse 9!", "Correct Horse 9!"},
		"a letter and its accent are composed": {"ne\u0301e", "n\u00e9e"},
		"a composed letter stays":              {"n\u00e9e", "n\u00e9e"},
		"Hangul is composed":                   {"\u1112\u1161\u11ab", "\ud55c"},
		"a no-break space is a space":          {"a\u00a0b", "a b"},
		"an ideographic space is a space":      {"a\u3000b", "a b"},
		"spaces at the ends stay":              {" ab ", " ab "},
		"case stays":                           {"PASSWORT", "PASSWORT"},
		"full width stays, unlike in NFKC":     {"\uff41\uff42", "\uff41\uff42"},
		"a ligature stays, unlike in NFKC":     {"\ufb01", "\ufb01"},
		"an emoji stays":                       {"🦊", "🦊"},
		"right to left stays":                  {"שלום", "שלום"},
		"the empty one stays":                  {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := password.Normalize("password", tc.typed)
			if err != nil || got != tc.normal {
				t.Errorf("%+q, %v", got, err)
			}
		})
	}
}

func TestACharacterThatAPasswordMayNotHaveIsNamed(t *testing.T) {
	for name, tc := range map[string]struct{ typed, says string }{
		"NUL":                                    {"ab\x00c", "character 3 is U+0000"},
		"a tab":                                  {"\tabc", "character 1 is U+0009"},
		"a zero-width space":                     {"ab\u200b", "character 3 is U+200B"},
		"a variation selector":                   {"I ❤\ufe0f", "character 4 is U+FE0F"},
		"a joiner between emojis":                {"👩\u200d💻", "character 2 is U+200D"},
		"reversed direction":                     {"a\u202eb", "character 2 is U+202E"},
		"an unassigned one":                      {"a\U000e0fff", "character 2 is U+E0FFF"},
		"a middle dot":                           {"a\u00b7b", "character 2 is U+00B7"},
		"one after a middle dot that is allowed": {"l\u00b7l\t", "character 4 is U+0009"},
		"not UTF-8":                              {"a\xffb", "valid UTF-8"},
		"a compatibility jamo alone":             {"a\u115f", "character 2 is U+115F"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := password.Normalize("new_password", tc.typed)
			e := errs.As(err)
			if e == nil || e.Kind != errs.KindInvalid || e.Violations[0].Field != "new_password" ||
				!strings.Contains(e.Error(), tc.says) {
				t.Errorf("answered %v", err)
			}
		})
	}
}

// The owner of a hash of before signs in as ever, and however they type.
func TestAHashOfWhatWasTypedMatchesAndIsOutdated(t *testing.T) {
	h := newHasher(t, 1)
	const typed, normal, other = "cafe\u0301 au lait noir", "caf\u00e9 au lait noir", "cafe au lait noir"
	hashOf := func(text string) string {
		hash, err := argon2id.CreateHash(text, &argon2id.Params{Memory: password.MemoryKiB, Iterations: 2,
			Parallelism: 1, SaltLength: 16, KeyLength: 32})
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	before, now := hashOf(typed), hashOf(normal)
	excluded := "I ❤\ufe0f my first computer"
	for name, tc := range map[string]struct {
		typed, hash  string
		ok, outdated bool
	}{
		"as it was typed, of before":      {typed, before, true, true},
		"as it was typed, of now":         {typed, now, true, false},
		"composed, of now":                {normal, now, true, false},
		"composed, of before":             {normal, before, false, false},
		"another, of before":              {other, before, false, false},
		"another, of now":                 {other, now, false, false},
		"nobody's":                        {typed, "", false, false},
		"one that is excluded, of before": {excluded, hashOf(excluded), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			ok, outdated, err := h.Check(t.Context(), tc.typed, tc.hash)
			if err != nil || ok != tc.ok || outdated != tc.outdated {
				t.Errorf("%v, %v, %v", ok, outdated, err)
			}
		})
	}
	made, err := h.Hash(t.Context(), typed)
	if err != nil {
		t.Fatal(err)
	}
	if ok, outdated, err := h.Check(t.Context(), normal, made); err != nil || !ok || outdated {
		t.Errorf("what was hashed of another form: %v, %v, %v", ok, outdated, err)
	}
}

// Otherwise the time of a refusal would tell whether the address has an account, or how old its hash is.
func TestAWrongPasswordIsTriedAsOftenWhateverTheHash(t *testing.T) {
	turns := 0 // each hash asks where its call comes from
	h := password.New(1, func(context.Context) string { turns++; return "" })
	hash, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	for name, hash := range map[string]string{"an account": hash, "nobody": ""} {
		for typed, tries := range map[string]int{"wrong horse battery": 1, "wrong horse\u0301 battery": 2} {
			turns = 0
			if ok, err := h.Matches(t.Context(), typed, hash); err != nil || ok {
				t.Fatal(ok, err)
			}
			if turns != tries {
				t.Errorf("%s: %+q took %d turns, not %d", name, typed, turns, tries)
			}
		}
	}
}
