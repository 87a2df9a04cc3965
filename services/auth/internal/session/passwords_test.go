package session_test

import (
	"context"
	"strings"
)

// plain compares passwords with themselves: hashing has its own tests.
type plain struct{}

func (plain) Matches(_ context.Context, password, hash string) (bool, error) {
	return hash != "" && password == strings.TrimPrefix(hash, "old "), nil
}

func (plain) NeedsRehash(hash string) bool { return strings.HasPrefix(hash, "old ") }

func (plain) Hash(_ context.Context, password string) (string, error) { return password, nil }
