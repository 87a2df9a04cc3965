package tlsfiles_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/tlsfiles"
)

func TestAListOfIDsNamesEachMistake(t *testing.T) {
	for _, entry := range []string{
		"", "*", "/*", "spiffe://", "spiffe:///x", "spiffe://*", "spiffe://*/x", "spiffe://a/*/b", "spiffe://a/b*",
		"spiffe://a/b/**", "spiffe://A/b", "spiffe://a/b/", "spiffe://a//b", "spiffe://a/../b", "spiffe://a/b c",
		"spiffe://a:8080/b", "spiffe://user@a/b", "spiffe://a/b?c", "spiffe://a/b#c", "spiffe://a/%62",
		"https://a/b", "SPIFFE://a/b", " spiffe://a/b",
	} {
		_, err := tlsfiles.ParseIDs([]string{"spiffe://a/b", entry, "spiffe://a/b/*"})
		if err == nil || !strings.Contains(err.Error(), `"`+entry+`"`) {
			t.Errorf("%q: %v", entry, err)
		}
	}
	if _, err := tlsfiles.ParseIDs([]string{"one", "spiffe://a", "two"}); err == nil ||
		!strings.Contains(err.Error(), `"one"`) || !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("two mistakes: %v", err)
	}
}

func TestAPrefixEndsAtASlash(t *testing.T) {
	ids, err := tlsfiles.ParseIDs([]string{"spiffe://a/ns/x/*", "spiffe://b/*", "spiffe://c", "spiffe://d/one"})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{
		"spiffe://a/ns/x/sa/y": true, "spiffe://a/ns/x/y": true, "spiffe://a/ns/x": false, "spiffe://a/ns/xy": false,
		"spiffe://a/ns/xy/z": false, "spiffe://b/any/thing": true, "spiffe://b": false, "spiffe://bb/x": false,
		"spiffe://b.evil/x": false, "spiffe://c": true, "spiffe://c/x": false, "spiffe://d/one": true,
		"spiffe://d/one/more": false, "spiffe://d/on": false, "": false,
	} {
		if ids.Has(id) != want {
			t.Errorf("%q: %t", id, !want)
		}
	}
}
