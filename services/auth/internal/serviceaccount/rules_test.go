package serviceaccount

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

func TestANewSecretLetsTheOthersEndAfterTheOverlap(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		expires time.Time // of the old secret, none when zero
		overlap time.Duration
		ends    time.Time // zero when it is dropped
	}{
		"an hour":                       {time.Time{}, time.Hour, now.Add(time.Hour)},
		"no overlap":                    {time.Time{}, 0, time.Time{}},
		"a negative overlap":            {time.Time{}, -time.Hour, time.Time{}},
		"more than the maximum":         {time.Time{}, 1000 * time.Hour, now.Add(MaxOverlap)},
		"one that ends before":          {now.Add(time.Minute), time.Hour, now.Add(time.Minute)},
		"one that would end afterwards": {now.Add(2 * time.Hour), time.Hour, now.Add(time.Hour)},
		"one that has ended":            {now, time.Hour, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			old, fresh := Secret{ID: uuid.New(), ExpiresAt: tc.expires}, Secret{ID: uuid.New(), CreatedAt: now}
			a, err := Account{Secrets: []Secret{old}}.rotated(fresh, tc.overlap)
			if err != nil || a.Secrets[0] != fresh {
				t.Fatalf("%+v, %v", a, err)
			}
			if tc.ends.IsZero() {
				if len(a.Secrets) != 1 {
					t.Errorf("%+v is left", a.Secrets[1:])
				}
				return
			}
			if len(a.Secrets) != 2 || a.Secrets[1].ID != old.ID || !a.Secrets[1].ExpiresAt.Equal(tc.ends) {
				t.Errorf("%+v are left, want one until %v", a.Secrets[1:], tc.ends)
			}
		})
	}
}

func TestADisabledServiceAccountHasNoSecretsAndGetsNone(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := Account{Secrets: []Secret{{ID: uuid.New()}, {ID: uuid.New(), ExpiresAt: now.Add(time.Hour)}}}.disabled(now)
	if !a.DisabledAt.Equal(now) || len(a.Secrets) != 0 {
		t.Errorf("%+v", a)
	}
	if _, err := a.rotated(Secret{CreatedAt: now}, 0); errs.As(err) == nil ||
		errs.As(err).Reason != "SERVICE_ACCOUNT_DISABLED" {
		t.Errorf("answered %v", err)
	}
}
