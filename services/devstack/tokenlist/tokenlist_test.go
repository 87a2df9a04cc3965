package tokenlist_test

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/tokenlist"
)

// The patterns are those of the public schema.
func TestTheListKeepsToThePublicSchema(t *testing.T) {
	at := time.Date(2026, time.March, 14, 15, 0, 0, 5, time.FixedZone("", 3600))
	raw, err := tokenlist.New(31337, at, chain.SeededTokens()).JSON()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Name, Timestamp string
		Version         struct{ Major, Minor, Patch *int }
		Tokens          []struct {
			ChainID               uint64 `json:"chainId"`
			Address, Symbol, Name string
			Decimals              *int
		}
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	matches := func(pattern, text string) {
		t.Helper()
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("%q doesn't match %s", text, pattern)
		}
	}
	matches(`^[\w ]{1,30}$`, list.Name)
	matches(`^2026-03-14T14:00:00Z$`, list.Timestamp)
	if list.Version.Major == nil || list.Version.Minor == nil || list.Version.Patch == nil {
		t.Error("the version isn't whole")
	}
	for _, token := range list.Tokens {
		matches(`^0x[a-fA-F0-9]{40}$`, token.Address)
		matches(`^\S{1,20}$`, token.Symbol)
		matches(`^[ \w.'+\-%/À-ÖØ-öø-ÿ:&\[\]()]{1,60}$`, token.Name)
		if token.ChainID != 31337 || token.Decimals == nil || *token.Decimals > 255 {
			t.Errorf("%+v", token)
		}
	}
	if len(list.Tokens) != 7 {
		t.Errorf("%d tokens; want ether and six of the chain", len(list.Tokens))
	}
}
