package idp

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
)

// Probe asks a provider whether it answers.
type Probe struct {
	Name, Address string
	Probe         func(ctx context.Context) error
}

// Probes returns a probe for each provider of l. It makes no request. An OpenID
// Connect provider is asked for its discovery document, GitHub for the head of its
// front page, whatever that is, since its API counts each request of an address.
func Probes(l List) []Probe {
	var all []Probe
	for _, s := range l {
		method, address := http.MethodGet, strings.TrimRight(s.Issuer, "/")+"/.well-known/openid-configuration"
		switch s.Kind {
		case "google":
			address = googleIssuer + "/.well-known/openid-configuration"
		case "github":
			method, address = http.MethodHead, newGitHub(s).settings.BaseURL
		}
		client := newClient(s.AllowPrivate)
		all = append(all, Probe{Name: s.Name, Address: redact.URL(address), Probe: func(ctx context.Context) error {
			return ask(ctx, client, method, address)
		}})
	}
	return all
}

func ask(ctx context.Context, client *http.Client, method, address string) error {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError ||
		method == http.MethodGet && resp.StatusCode != http.StatusOK {
		return errs.Unavailable("HTTP_STATUS", fmt.Sprintf("it answers with status %d", resp.StatusCode))
	}
	return nil
}
