package apikey

import (
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

func TestAUserHasFiftyUsableKeys(t *testing.T) {
	if err := (Key{}).check(49, authority.Held{}); err != nil {
		t.Error(err)
	}
	if e := errs.As((Key{}).check(50, authority.Held{})); e == nil || e.Reason != "TOO_MANY_API_KEYS" {
		t.Error(e)
	}
}

func TestAScopeThatWasTakenMeanwhileIsRefused(t *testing.T) {
	k := Key{Scopes: []string{"wallet:read", "wallet:write"}}
	if err := k.check(0, authority.Held{Permissions: []string{"wallet:read", "wallet:write"}}); err != nil {
		t.Error(err)
	}
	if e := errs.As(k.check(0, authority.Held{Permissions: []string{"wallet:read"}})); e == nil ||
		e.Reason != "SCOPE_NOT_HELD" {
		t.Error(e)
	}
}
