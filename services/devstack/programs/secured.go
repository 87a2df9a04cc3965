package programs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/purserhq/purser/pkg/testkit/testca"
	"github.com/purserhq/purser/proto/client"
	"github.com/purserhq/purser/services/devstack/suite"
)

// Gateway is the program that calls the services for users.
const Gateway = "gateway"

// SpiffeID is that of a program.
func SpiffeID(name string) string { return "spiffe://purser.example/ns/purser/sa/" + name }

// Certificates are the folders of certificates of the services and of a gateway, by name, with which they call each
// other by mutual TLS, as docs/tls.md has it.
type Certificates map[string]*testca.Folder

// NewCertificates makes the folders below dir, with certificates of an authority.
func NewCertificates(dir string, ca *testca.CA) (Certificates, error) {
	c := Certificates{}
	for _, name := range append(Names(), Gateway) {
		cert, key, err := ca.Sign(testca.Leaf{URIs: []string{SpiffeID(name)}})
		if err != nil {
			return nil, err
		}
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
		if c[name], err = testca.MakeFolder(folder, ca.PEM, cert, key); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Environ is the configuration of a service on a backing, with mutual TLS between all of them; e must have the
// addresses of those that it calls.
func (c Certificates) Environ(b *suite.Infrastructure, name string, e suite.Endpoints) []string {
	keys := []string{"PURSER_JWKS_URL=https://" + e.AuthHTTP + "/.well-known/jwks.json",
		"PURSER_JWKS_TLS_CA=" + c[name].CA()}
	switch name {
	case "auth":
		return suite.Override(b.AuthEnviron(), append(c.server(name, "wallet", "portfolio", Gateway),
			"PURSER_HTTP_TLS_CERT="+c[name].Cert(), "PURSER_HTTP_TLS_KEY="+c[name].Key()))
	case "wallet":
		return suite.Override(b.WalletEnviron(e), slices.Concat(keys, c.server(name, "portfolio", Gateway),
			c.calling(name, "auth")))
	default:
		return suite.Override(b.PortfolioEnviron(e), slices.Concat(keys, c.server(name, Gateway),
			c.calling(name, "auth"), c.calling(name, "wallet")))
	}
}

// server are the settings of a service that takes calls of these.
func (c Certificates) server(name string, callers ...string) []string {
	f := c[name]
	var ids []string
	for _, caller := range callers {
		ids = append(ids, SpiffeID(caller))
	}
	return []string{"PURSER_GRPC_PLAINTEXT=false",
		"PURSER_GRPC_TLS_CERT=" + f.Cert(), "PURSER_GRPC_TLS_KEY=" + f.Key(),
		"PURSER_GRPC_TLS_CLIENT_CA=" + f.CA(), "PURSER_GRPC_TLS_CLIENT_IDS=" + strings.Join(ids, ",")}
}

// calling are the settings of a service's client of another.
func (c Certificates) calling(name, service string) []string {
	f, prefix := c[name], "PURSER_"+strings.ToUpper(service)+"_"
	return []string{prefix + "PLAINTEXT=false", prefix + "TLS_CA=" + f.CA(), prefix + "TLS_CERT=" + f.Cert(),
		prefix + "TLS_KEY=" + f.Key(), prefix + "TLS_SERVER_ID=" + SpiffeID(service)}
}

// Dial connects to all services as the gateway.
func (c Certificates) Dial(e suite.Endpoints) (*client.Clients, error) {
	f := c[Gateway]
	return client.Dial(client.Config{Auth: e.Auth, Wallet: e.Wallet, Portfolio: e.Portfolio, CAFile: f.CA(),
		TLSCert: f.Cert(), TLSKey: f.Key()})
}

// Secured are the services as programs with mutual TLS.
type Secured struct {
	suite.Endpoints
	// Running are in the order of Names.
	Running []*Process
}

// StartSecured migrates the databases of a backing and runs the programs of a folder. The caller stops what is
// returned, also after an error.
func StartSecured(ctx context.Context, dir string, b *suite.Infrastructure, c Certificates) (*Secured, error) {
	s := &Secured{}
	for _, name := range Names() {
		program, environ := filepath.Join(dir, name), c.Environ(b, name, s.Endpoints)
		if err := Migrate(ctx, program, environ); err != nil {
			return s, err
		}
		p, err := Launch(program, environ)
		if err != nil {
			return s, err
		}
		s.Running = append(s.Running, p)
		switch addr := p.Addrs["grpc"]; name {
		case "auth":
			s.Auth, s.AuthHTTP = addr, p.Addrs["http"]
			for _, args := range b.EnsureServiceAccounts() {
				if out, err := Run(ctx, program, environ, args...); err != nil {
					return s, fmt.Errorf("auth %s: %w\n%s", strings.Join(args, " "), err, out)
				}
			}
		case "wallet":
			s.Wallet = addr
		default:
			s.Portfolio = addr
		}
	}
	return s, nil
}

// Stop ends the programs, callers before those that they call.
func (s *Secured) Stop() error {
	var failed error
	for _, p := range slices.Backward(s.Running) {
		if err := p.End(); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}
