package app

import (
	"cmp"

	"github.com/purserhq/purser/services/auth/internal/password"
	"github.com/purserhq/purser/services/internal/chassis"
)

// newHasher returns what hashes passwords, in a process of its own unless cfg says otherwise.
func newHasher(b *chassis.Builder, cfg Config) *password.Hasher {
	hasher := password.New(cmp.Or(cfg.HashesAtOnce, password.MaxConcurrent()), hashSource)
	switch {
	case cfg.CheapHashes:
		hasher.UseCheapHashes()
	case cfg.PasswordProcess:
		hasher.UseProcess(b.Log)
		b.OnClose("password process", hasher.Close)
	default:
		password.ShareProcessor()
	}
	return hasher
}
