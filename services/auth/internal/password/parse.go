package password

import (
	"errors"
	"strings"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"
)

// What a stored hash may ask for at most, so that one that was imported, or
// forged in the database, can't stop the service.
const (
	mostMemoryKiB  = 256 * 1024
	mostIterations = 16
	mostLanes      = 16
	leastBytes     = 8
	mostBytes      = 128
	mostCost       = 14 // of bcrypt: about a second
	mostHash       = 512
)

var errHash = errors.New("the stored hash is none of argon2id or bcrypt within bounds")

// parsed is a hash that can be compared with.
type parsed struct {
	hash   string
	bcrypt bool
	params argon2id.Params
}

// parse reads an argon2id hash in PHC form, or one of bcrypt: 2a, 2b and 2y,
// which are the same but for bugs of those that made them.
func parse(hash string) (parsed, error) {
	p := parsed{hash: hash}
	if len(hash) > mostHash {
		return p, errHash
	}
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		if strings.HasPrefix(hash, prefix) {
			cost, err := bcrypt.Cost([]byte(hash))
			if err != nil || cost > mostCost || len(hash) != 60 {
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
	if !within(params.Memory, 8*uint32(params.Parallelism), mostMemoryKiB) ||
		!within(params.Iterations, 1, mostIterations) ||
		!within(uint32(params.Parallelism), 1, mostLanes) ||
		!within(len(salt), leastBytes, mostBytes) || !within(len(key), leastBytes, mostBytes) {
		return p, errHash
	}
	return p, nil
}

func within[N int | uint32](n, least, most N) bool { return least <= n && n <= most }

// turns that comparing takes: one for each MemoryKiB begun.
func (p parsed) turns() int64 {
	if p.bcrypt {
		return 1
	}
	return int64(p.params.Memory+MemoryKiB-1) / MemoryKiB
}
