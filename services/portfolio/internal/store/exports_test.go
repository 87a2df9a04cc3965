package store_test

import (
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/export"
)

// peakWriter notes the largest heap that it saw while it was written to.
type peakWriter struct {
	io.Writer
	bytes int
	peak  uint64
}

func (w *peakWriter) Write(p []byte) (int, error) {
	if w.bytes/(1<<20) != (w.bytes+len(p))/(1<<20) { // after each megabyte
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.peak = max(w.peak, m.HeapAlloc)
	}
	w.bytes += len(p)
	return w.Writer.Write(p)
}

func TestALargeExportTakesNoMoreMemory(t *testing.T) {
	f := newFixture(t, noRedis)
	const hours, tokens = 4000, 20
	for _, statement := range []string{
		`INSERT INTO assets (token_id, symbol, decimals, verified)
			SELECT 'eip155:1/erc20:0x' || n, 'T' || n, 18, true FROM generate_series(1, 20) AS n`,
		`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
			incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow)
			SELECT p.id, t, t, 1, 2469, true, 20, 0, 0, 0, true, true, 0 FROM portfolios p,
			generate_series('2026-03-01T00:00:00Z'::timestamptz,
			                '2026-03-01T00:00:00Z'::timestamptz + 3999 * interval '1 hour', '1 hour') AS t`,
		`INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
			SELECT p.id, a.id, '2026-03-01T00:00:00Z', 1000000000000000000
			FROM portfolios p, assets a`,
		`INSERT INTO hour_prices SELECT bucket, a.id, 1, bucket, false, 123.45, 'test', '' FROM snapshots, assets a`,
		"ANALYZE",
	} {
		if _, err := f.db.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	s := export.NewService(f.Snapshots, dollars(), func() time.Time { return hour(hours) })
	req := export.Request{Positions: true, Start: hour(0), End: hour(hours)}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	out := &peakWriter{Writer: io.Discard}
	rows, err := s.Write(t.Context(), f.p, req, out)
	if err != nil || rows != hours*tokens {
		t.Fatal(rows, err)
	}
	above := (int64(out.peak) - int64(before.HeapAlloc)) >> 20
	testkit.Figure(t, "an export of %d rows, %d MiB: at most %d MiB of memory above the %d MiB before (limit 48)",
		rows, out.bytes>>20, above, before.HeapAlloc>>20)
	if above > 48 {
		t.Errorf("it took %d MiB", above)
	}
	req.Format = export.XLSX
	_, err = s.Write(t.Context(), f.p, req, io.Discard)
	if e := errs.As(err); e == nil || e.Reason != "TOO_MANY_ROWS" {
		t.Errorf("a sheet of %d rows: %v", rows, err)
	}
}
