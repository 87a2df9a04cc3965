package idp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

// gitHub has no OpenID Connect, so its API is queried for the user's identity.
type gitHub struct {
	settings Settings
	client   *http.Client
}

func newGitHub(s Settings) *gitHub {
	if s.BaseURL == "" {
		s.BaseURL, s.APIURL = "https://github.com", "https://api.github.com"
	}
	if len(s.Scopes) == 0 {
		s.Scopes = []string{"read:user", "user:email"}
	}
	s.BaseURL, s.APIURL = strings.TrimRight(s.BaseURL, "/"), strings.TrimRight(s.APIURL, "/")
	return &gitHub{settings: s, client: newClient(s.AllowPrivate)}
}

func (g *gitHub) config(redirectURI string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: g.settings.ClientID, ClientSecret: g.settings.ClientSecret.Reveal(),
		Endpoint: oauth2.Endpoint{
			AuthURL:   g.settings.BaseURL + "/login/oauth/authorize",
			TokenURL:  g.settings.BaseURL + "/login/oauth/access_token",
			AuthStyle: oauth2.AuthStyleInParams,
		},
		RedirectURL: redirectURI, Scopes: g.settings.Scopes,
	}
}

// AuthURL implements oauth.Provider. There is no ID token, so no nonce.
func (g *gitHub) AuthURL(_ context.Context, r oauth.Request) (string, error) {
	return g.config(r.RedirectURI).AuthCodeURL(r.State,
		oauth2.SetAuthURLParam("code_challenge", r.Challenge),
		oauth2.SetAuthURLParam("code_challenge_method", "S256")), nil
}

// Identify implements oauth.Provider. The subject is the numeric id of the account,
// because its login name can be changed and then be used by another account.
func (g *gitHub) Identify(ctx context.Context, a oauth.Answer) (identity.Claim, error) {
	if a.Issuer != "" && a.Issuer != g.settings.BaseURL+"/login/oauth" {
		return identity.Claim{}, invalid(errors.New("the response names another issuer"))
	}
	ctx, cancel := withTimeout(context.WithValue(ctx, oauth2.HTTPClient, g.client))
	defer cancel()
	token, err := g.config(a.RedirectURI).Exchange(ctx, a.Code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return identity.Claim{}, exchangeError(err, g.settings.ClientSecret.Reveal(), a.Code, a.Verifier)
	}
	var user struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
		Name  string `json:"name"`
	}
	if err := g.get(ctx, token, "/user", &user); err != nil {
		return identity.Claim{}, err
	}
	if user.ID <= 0 {
		return identity.Claim{}, invalid(errors.New("the user has no id"))
	}
	var emails []struct {
		Email    string       `json:"email"`
		Primary  bool         `json:"primary"`
		Verified boolOrString `json:"verified"`
	}
	if err := g.get(ctx, token, "/user/emails", &emails); err != nil {
		return identity.Claim{}, err
	}
	c := identity.Claim{Subject: strconv.FormatInt(user.ID, 10), Name: user.Name, Label: user.Login}
	for _, e := range emails {
		if e.Primary {
			c.Email, c.Verified = e.Email, bool(e.Verified)
		}
	}
	return c, nil
}

func (g *gitHub) get(ctx context.Context, token *oauth2.Token, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.settings.APIURL+path, nil)
	if err != nil {
		return invalid(err)
	}
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	return requestJSON(g.client, r, token.AccessToken, into)
}
