package app

import (
	"cmp"

	"github.com/purserhq/purser/services/auth/internal/password"
	"github.com/purserhq/purser/services/internal/chassis"
)

// newHasher returns what hashes passwords, in a process of its own unless cfg says otherwise.
func newHasher(b *chassis.Builder, cfg Config) (*password.Hasher, error) {
	slots := cmp.Or(cfg.HashesAtOnce, password.MaxConcurrent())
	hasher, err := password.New(slots, hashSource)
	if err != nil {
		return nil, err
	}
	if cfg.CheapHashes {
		return hasher, hasher.UseCheapHashes()
	}
	if !cfg.PasswordProcess {
		password.ShareProcessor()
		return hasher, nil
	}
	hasher.UseProcess(b.Log)
	b.OnClose("password process", hasher.Close)
	return hasher, nil
}
