package suitetest

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/suite"
)

// The snapshots and positions of a chain that is the same on every machine. The hashes were computed when each hour
// was read by calls of its own and stored a few at a time: a faster backfill has to store the same digits. Nine days
// unless PURSER_PROVE is set.
func TestABackfillStoresTheSameDigitsAsEver(t *testing.T) {
	t.Parallel()
	days := testkit.Size(9, 90)
	want := map[int]string{
		9:  "1e6ead7004255ba18631160f40d4db657dc0fb52dd0ce489e9ebb1f8aa2d17db",
		90: "5965cb1ebda4dde125064be8add25cd03dd4a8bd75b1929d1f58a891702b64d7",
	}[days]
	now := time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC)
	s := start(t, func(o *suite.Options) {
		o.History = time.Duration(days) * 24 * time.Hour
		o.Now = func() time.Time { return now }
	})
	c := dial(t, s.Endpoints)
	ctx, _ := withHolders(t, s, c)
	from, until := s.Chain.Plan().Start, now.Truncate(time.Hour)
	begun := time.Now()
	n, incomplete := backfill(t, ctx, c, from, until)
	took := time.Since(begun)
	lines := stored(t, ctx, c, s)
	if int(n) != days*24 || incomplete != 0 || len(lines) != days*24 {
		t.Fatalf("%d stored, %d of them incomplete, and %d lines", n, incomplete, len(lines))
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("the %d hours are %s, want %s; the first and the last:\n%s\n%s", len(lines), got, want, lines[0],
			lines[len(lines)-1])
	}
	testkit.Figure(t, "%d hours of 3 wallets backfilled in %s", n, took.Round(10*time.Millisecond))
}
