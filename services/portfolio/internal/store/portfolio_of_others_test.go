package store_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestAPortfolioOfSomebodyElseIsNotFound(t *testing.T) {
	for name, url := range map[string]string{"with a cache": testkit.Redis(t).URL(), "without": noRedis} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, url)
			s := f.portfolios(t)
			for range 2 { // the second from the cache
				if got, err := s.ByID(t.Context(), f.p.Owner, f.p.ID); err != nil || got.ID != f.p.ID {
					t.Error(got, err)
				}
				_, theirs := s.ByID(t.Context(), uuid.New(), f.p.ID)
				unknown := uuid.New()
				_, nobodys := s.ByID(t.Context(), f.p.Owner, unknown)
				if !errs.Is(theirs, errs.KindNotFound) ||
					strings.ReplaceAll(theirs.Error(), f.p.ID.String(), unknown.String()) != nobodys.Error() {
					t.Errorf("told apart: %v and %v", theirs, nobodys)
				}
			}
		})
	}
}
