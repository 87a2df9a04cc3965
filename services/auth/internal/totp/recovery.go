package totp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
)

// recoveryCount is the number of recovery codes that an account is given.
const recoveryCount = 10

// Hash is the SHA-256 of an account's id and a recovery code. A code is random, so a fast hash is enough.
type Hash [sha256.Size]byte

// recoveryCodes makes new codes, as they are shown and as they are stored.
func recoveryCodes(user uuid.UUID) (codes []string, hashes []Hash) {
	for range recoveryCount {
		text := strings.ToLower(rand.Text()[:16]) // 80 bits
		hashes = append(hashes, hashOf(user, text))
		codes = append(codes, strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:]}, "-"))
	}
	return codes, hashes
}

// plain is a code without what people put into it.
func plain(code string) string { return strings.NewReplacer(" ", "", "-", "").Replace(code) }

// IsRecoveryCode reports whether a code is no code of an app, and so can only be a recovery code.
func IsRecoveryCode(code string) bool {
	n := len(plain(code))
	return n > 0 && n != otp.DigitsSix.Length()
}

// KnowsRecoveryCode reports whether a code is an unused recovery code of a user. It does not use it up.
func (s *Service) KnowsRecoveryCode(ctx context.Context, user uuid.UUID, code string) (bool, error) {
	hashes, err := s.store.RecoveryCodes(ctx, user)
	return err == nil && slices.Contains(hashes, hashOf(user, plain(code))), err
}

func hashOf(user uuid.UUID, code string) Hash {
	return sha256.Sum256(append(user[:], strings.ToLower(code)...))
}
