package idp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/auth/internal/idp"
)

func TestEveryErrorInTheProvidersIsReported(t *testing.T) {
	var l idp.List
	err := l.UnmarshalText([]byte(`[
		{"name":"Corp","kind":"oidc","issuer":"http://corp.example","client_id":"x","client_secret":"hunter2"},
		{"name":"a","kind":"oidc","client_id":"x","client_secret":"hunter2"},
		{"name":"a","kind":"google","issuer":"https://x.example","client_id":"","client_secret":"hunter2"},
		{"name":"b","kind":"saml","client_id":"x","client_secret":"hunter2"},
		{"name":"c","kind":"github","base_url":"https://git.example","client_id":"x","client_secret":"hunter2"},
		{"name":"callback","kind":"google","client_id":"x","client_secret":"hunter2"}]`))
	if err != nil {
		t.Fatal(err)
	}
	err = l.Validate()
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		`1 ("Corp"): name must`, `1 ("Corp"): issuer must begin with https://`, `2 ("a"): issuer must be a URL`,
		`3 ("a"): the name is used twice`,
		`3 ("a"): client_id`, `3 ("a"): issuer is not used by the kind google`, `4 ("b"): kind must be`,
		`5 ("c"): base_url and api_url`, `6 ("callback"): name must`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	for _, text := range []string{fmt.Sprint(l), fmt.Sprintf("%v %+v", l, l[0]), err.Error()} {
		if strings.Contains(text, "hunter2") {
			t.Error("a secret is shown")
		}
	}
	for _, text := range []string{`{"client_secret":"hunter2"}`, `[{"client_secret":"hunter2","extra":1}]`,
		`hunter2`} {
		if err := new(idp.List).UnmarshalText([]byte(text)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
