package idp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

// Settings of one provider.
type Settings struct {
	// Name in URLs and RPCs, such as "google". Identities are stored under it, so
	// changing it unlinks all accounts.
	Name string `json:"name"`
	// Kind is "oidc", "google" or "github".
	Kind string `json:"kind"`
	// Issuer is the URL of the issuer, for kind oidc only.
	Issuer       string        `json:"issuer,omitempty"`
	ClientID     string        `json:"client_id"`
	ClientSecret config.Secret `json:"client_secret"`
	// Scopes replace the default scopes of the kind.
	Scopes []string `json:"scopes,omitempty"`
	// AllowPrivate allows an address that is not public, and plain http.
	AllowPrivate bool `json:"allow_private,omitempty"`
	// BaseURL and APIURL of a GitHub Enterprise Server, for kind github only.
	BaseURL string `json:"base_url,omitempty"`
	APIURL  string `json:"api_url,omitempty"`
}

// List is the configured providers: a JSON array of Settings.
type List []Settings

// googleIssuer is the issuer of the kind google.
const googleIssuer = "https://accounts.google.com"

var providerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// UnmarshalText decodes the array. Unknown members are an error.
func (l *List) UnmarshalText(text []byte) error {
	*l = nil
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode((*[]Settings)(l)); err != nil {
		// The decoder's error is dropped, because it can quote a secret.
		return errors.New("must be a JSON array of providers, for example " +
			`[{"name":"google","kind":"google","client_id":"…","client_secret":"…"}]`)
	}
	return nil
}

// String returns the names and kinds only, no secrets.
func (l List) String() string {
	names := make([]string, len(l))
	for i, s := range l {
		names[i] = s.Name + "=" + s.Kind
	}
	return strings.Join(names, ",")
}

// Validate returns every invalid setting of l as one error.
func (l List) Validate() error {
	var failures []error
	seen := map[string]bool{}
	for i, s := range l {
		add := func(what string) {
			failures = append(failures, fmt.Errorf("PURSER_OAUTH_PROVIDERS: provider %d (%q): %s", i+1, s.Name, what))
		}
		if !providerName.MatchString(s.Name) || s.Name == "callback" || s.Name == "eip155" {
			add("name must be a lower-case word other than callback and eip155")
		}
		if seen[s.Name] {
			add("the name is used twice")
		}
		seen[s.Name] = true
		if s.ClientID == "" || s.ClientSecret == "" {
			add("client_id and client_secret are needed")
		}
		for _, what := range s.invalidFields() {
			add(what)
		}
	}
	return errors.Join(failures...)
}

// invalidFields returns one text per invalid field.
func (s Settings) invalidFields() []string {
	var found []string
	address := func(name, text string, needed bool) {
		u, err := url.Parse(text)
		switch {
		case text == "" && !needed:
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			found = append(found, name+" must be a URL without user, query and fragment")
		case u.Scheme != "https" && (u.Scheme != "http" || !s.AllowPrivate):
			found = append(found, name+" must begin with https://, or with http:// where allow_private is set")
		}
	}
	unused := func(name, text string) {
		if text != "" {
			found = append(found, name+" is not used by the kind "+s.Kind)
		}
	}
	switch s.Kind {
	case "oidc":
		address("issuer", s.Issuer, true)
		unused("base_url", s.BaseURL)
		unused("api_url", s.APIURL)
	case "google":
		unused("issuer", s.Issuer)
		unused("base_url", s.BaseURL)
		unused("api_url", s.APIURL)
	case "github":
		unused("issuer", s.Issuer)
		address("base_url", s.BaseURL, false)
		address("api_url", s.APIURL, false)
		if (s.BaseURL == "") != (s.APIURL == "") {
			found = append(found, "base_url and api_url must be set together")
		}
	default:
		found = append(found, "kind must be oidc, google or github")
	}
	return found
}

// Providers returns the providers of l by name. It makes no request.
func Providers(l List) map[string]oauth.Provider {
	all := map[string]oauth.Provider{}
	for _, s := range l {
		switch s.Kind {
		case "google":
			s.Issuer = googleIssuer
			all[s.Name] = newOIDC(s)
		case "github":
			all[s.Name] = newGitHub(s)
		default:
			all[s.Name] = newOIDC(s)
		}
	}
	return all
}
