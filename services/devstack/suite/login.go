package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/purserhq/purser/services/devstack/login"
	"github.com/purserhq/purser/services/devstack/progress"
)

func (b *Infrastructure) startLogin(ctx context.Context) error {
	return b.step("login", func(progress.Note) (string, error) {
		var err error
		b.Login, err = login.Start(ctx, login.Options{
			Addr: loopback(b.opts.Ports.Login), RedirectURIs: []string{b.baseURL() + "/oauth/callback"},
		})
		if err != nil {
			return "", err
		}
		if b.providers, err = joinLists(b.Login.Settings(), b.opts.Providers); err != nil {
			return "", fmt.Errorf("PURSER_OAUTH_PROVIDERS %w", err)
		}
		return b.embedded("login", b.Login.URL()), nil
	})
}

// joinLists returns one JSON array with the elements of two; the second may be empty.
func joinLists(own, more string) (string, error) {
	var all []json.RawMessage
	for _, list := range []string{own, more} {
		var elements []json.RawMessage
		if list != "" && json.Unmarshal([]byte(list), &elements) != nil {
			return "", errors.New("must be a JSON array, see docs/sign-in.md") // without the text, which has secrets
		}
		all = append(all, elements...)
	}
	joined, err := json.Marshal(all)
	return string(joined), err
}
