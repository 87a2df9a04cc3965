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

func (p plain) Check(ctx context.Context, password, hash string) (ok, outdated bool, err error) {
	ok, err = p.Matches(ctx, password, hash)
	return ok, strings.HasPrefix(hash, "old "), err
}

func (plain) Hash(_ context.Context, password string) (string, error) { return password, nil }
