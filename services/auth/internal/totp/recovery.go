package totp

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"

	"github.com/google/uuid"
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

func hashOf(user uuid.UUID, code string) Hash {
	return sha256.Sum256(append(user[:], strings.ToLower(code)...))
}
