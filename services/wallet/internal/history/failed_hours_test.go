package history_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// An hour that must be read again, and can't be, is returned with the stored
// balances, and as failed since they may not be all.
func TestAnHourThatCanNotBeReadAgainIsReturnedAsFailed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		first  time.Duration // how long after its beginning the hour is read first; 0 for days
		then   func(t *testing.T, f *fixture)
		failed bool
	}{
		{"it was read before a token was listed", 0, func(t *testing.T, f *fixture) { f.list(t, 3) }, true},
		{"it was read before its blocks had settled", 10 * time.Minute, nil, true},
		{"there is no need to", 0, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, noRedis)
			if tc.first > 0 {
				f.now = day().Add(tc.first)
			}
			mustRead(t, f, 1)
			f.now = noon()
			f.hourError = func(uint64, time.Time) string { return "pruned" }
			if tc.then != nil {
				tc.then(t, f)
			}
			for _, size := range []int{1, 1000} {
				rows, _ := f.read(t, 1, size)
				if len(rows) != len(f.wallets) {
					t.Fatalf("%d rows", len(rows))
				}
				for _, r := range rows {
					if s := r.Wallet.Sync; r.Balance == nil || tc.failed != (s.State == wallet.Failed) ||
						tc.failed != (s.Error == "pruned") {
						t.Errorf("sync %+v with %+v", s, r.Balance)
					}
				}
			}
		})
	}
}
