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
	eip4361.Site
	// Chains that a message may name, by their EIP-155 ids.
	Chains []uint64 `env:"CHAINS" envDefault:"1"`
}

// Validate reports every error in c.
func (c SIWEConfig) Validate() error {
	errs := []error{c.Site.Validate()}
	for _, id := range c.Chains {
		if id == 0 || id > 1<<63-1 {
			errs = append(errs, errors.New("PURSER_SIWE_CHAINS must be EIP-155 ids"))
		}
	}
	return errors.Join(errs...)
}

func (c SIWEConfig) site() siwe.Site {
	return siwe.Site{Domain: c.Domain, URI: c.PageURI(), Chains: c.Chains}
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
