package suite

import (
	"context"

	"github.com/purserhq/purser/services/devstack/login"
	"github.com/purserhq/purser/services/devstack/progress"
)

func (b *Backing) startLogin(ctx context.Context) error {
	return b.step("login", func(progress.Note) (string, error) {
		var err error
		b.Login, err = login.Start(ctx, login.Options{
			Addr: loopback(b.opts.Ports.Login), RedirectURIs: []string{b.hostedURL() + "/oauth/callback"},
		})
		if err != nil {
			return "", err
		}
		return b.embedded("login", b.Login.URL()), nil
	})
}
