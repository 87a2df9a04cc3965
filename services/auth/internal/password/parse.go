package password

import (
	"errors"
	"strings"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"
)

// Bounds of the parameters of a stored hash, so that one that was imported, or
// forged in the database, can't exhaust the service.
const (
	maxMemoryKiB  = 256 * 1024
	maxIterations = 16
	maxLanes      = 16
	minBytes      = 8
	maxBytes      = 128
	maxCost       = 14 // of bcrypt: about a second
	maxHash       = 512
)

var errHash = errors.New("the stored hash is neither argon2id nor bcrypt with parameters within bounds")

// parsed is a stored hash that passed the bounds.
type parsed struct {
	hash   string
	bcrypt bool
	params argon2id.Params
}

// parse reads an argon2id hash in PHC form, or a bcrypt hash with the prefix 2a, 2b
// or 2y, which differ only in bugs of the programs that made them.
func parse(hash string) (parsed, error) {
	p := parsed{hash: hash}
	if len(hash) > maxHash {
		return p, errHash
	}
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		if strings.HasPrefix(hash, prefix) {
			cost, err := bcrypt.Cost([]byte(hash))
			if err != nil || cost > maxCost || len(hash) != 60 {
				return p, errHash
			}
			p.bcrypt = true
			return p, nil
		}
	}
	params, salt, key, err := argon2id.DecodeHash(hash)
	if err != nil {
		return p, errHash
	}
	p.params = *params
	if !within(params.Memory, 8*uint32(params.Parallelism), maxMemoryKiB) ||
		!within(params.Iterations, 1, maxIterations) ||
		!within(uint32(params.Parallelism), 1, maxLanes) ||
		!within(len(salt), minBytes, maxBytes) || !within(len(key), minBytes, maxBytes) {
		return p, errHash
	}
	return p, nil
}

func within[N int | uint32](n, low, high N) bool { return low <= n && n <= high }

// slots returns how many slots a comparison needs: its memory divided by MemoryKiB,
// rounded up.
func (p parsed) slots() int64 {
	if p.bcrypt {
		return 1
	}
	return int64(p.params.Memory+MemoryKiB-1) / MemoryKiB
}
