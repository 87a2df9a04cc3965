package app

import (
	"errors"
	"log/slog"
	"time"

	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/siwe"
	"github.com/purserhq/purser/services/internal/eip4361"
	"github.com/purserhq/purser/services/internal/ethsig"
)

// SIWEConfig is of signing in with wallets (EIP-4361).
type SIWEConfig struct {
	// Domain of the page that asks for the signature, host or host:port, as
	// wallets compare it. No wallet signs in while it is empty.
	Domain string `env:"DOMAIN"`
	// URI of that page; https:// and the domain when empty.
	URI string `env:"URI"`
	// Chains that a message may name, by their EIP-155 ids.
	Chains []uint64 `env:"CHAINS" envDefault:"1"`
}

// Validate reports every error in c.
func (c SIWEConfig) Validate() error {
	var errs []error
	if c.Domain != "" && !eip4361.IsAuthority(c.Domain) {
		errs = append(errs, errors.New("PURSER_SIWE_DOMAIN must be host or host:port"))
	}
	if c.URI != "" && !eip4361.IsURI(c.URI) {
		errs = append(errs, errors.New("PURSER_SIWE_URI must be a URI"))
	}
	if c.Domain == "" && c.URI != "" {
		errs = append(errs, errors.New("PURSER_SIWE_URI needs PURSER_SIWE_DOMAIN"))
	}
	for _, id := range c.Chains {
		if id == 0 || id > 1<<63-1 {
			errs = append(errs, errors.New("PURSER_SIWE_CHAINS must be EIP-155 ids"))
		}
	}
	return errors.Join(errs...)
}

func (c SIWEConfig) site() siwe.Site {
	s := siwe.Site{Domain: c.Domain, URI: c.URI, Chains: c.Chains}
	if s.URI == "" {
		s.URI = "https://" + c.Domain
	}
	return s
}

// newWalletSignIn wires signing in with wallets (EIP-4361).
func newWalletSignIn(cfg Config, c challengeStores, identities *identity.Service, sessions *session.Service,
	events audit.Recorder, log *slog.Logger) *siwe.Service {
	return siwe.NewService(siwe.Deps{
		Nonces:     once[siwe.Challenge](c, "wallet_nonce"),
		Contracts:  ethsig.NewContracts(cfg.ChainRPCURLs, log),
		Identities: identities, Sessions: sessions, Audit: events, Now: time.Now,
	}, cfg.SIWE.site())
}
