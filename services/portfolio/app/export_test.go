package app_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// export returns the whole file and its rows, as the caller reads it.
func (s service) export(ctx context.Context, req *portfoliov1.ExportSnapshotsRequest) (file []byte, rows int64,
	err error) {
	stream, err := s.ExportSnapshots(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	whole := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && whole {
			return file, rows, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if !whole && m.RowCount == nil && len(m.GetData())%3 != 0 {
			return nil, 0, errors.New("a part can't be joined in base64")
		}
		file, rows, whole = append(file, m.GetData()...), m.GetRowCount(), m.RowCount != nil
	}
}

// table is a file as lines of cells by the names of their columns.
func table(t *testing.T, file []byte, comma rune) (rows []map[string]string) {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(file))
	r.Comma = comma
	lines, err := r.ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%d lines, %v in %.300s", len(lines), err, file)
	}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, cell := range line {
			row[lines[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}

// withHostileTokens backfills a day, and gives a token a name that a spreadsheet would compute.
func (s service) withHostileTokens(ctx context.Context, t *testing.T) (from, until time.Time) {
	t.Helper()
	from, until = pastHours(24)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `UPDATE assets SET symbol = '=1+1' WHERE decimals = 18`)
	s.exec(t, `UPDATE assets SET symbol = '007' WHERE decimals = 6`)
	s.exec(t, `UPDATE hour_prices SET price = 0.125 WHERE asset = (SELECT id FROM assets WHERE decimals = 6)
		AND price IS NOT NULL`)
	return from, until
}

func TestExportedHoursAreTheStoredOnesOldestFirst(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := s.withHostileTokens(ctx, t)
	req := &portfoliov1.ExportSnapshotsRequest{Format: portfoliov1.ExportFormat_EXPORT_FORMAT_JSON_LINES,
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)}
	file, rows, err := s.export(ctx, req)
	if err != nil || rows != 24 {
		t.Fatal(rows, err)
	}
	lines := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	for i, line := range lines {
		var row struct {
			HourTime string `json:"hour_time"`
			Total    string `json:"total"`
			Complete bool   `json:"complete"`
		}
		h := from.Add(time.Duration(i) * time.Hour)
		total, complete := expectedTotal(h)
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.HourTime != h.Format(time.RFC3339) ||
			row.Total != total || row.Complete != complete {
			t.Errorf("line %d: %s, %v, want %s", i, line, err, total)
		}
	}
	other, _ := s.newUser(t, "portfolio:read")
	if file, rows, err := s.export(other, req); err != nil || rows != 0 || len(file) != 0 {
		t.Errorf("another user gets %d rows, %s, %v", rows, file, err)
	}
	_, _, err = s.export(ctx, &portfoliov1.ExportSnapshotsRequest{EndTime: timestamppb.New(time.Now().Add(time.Hour))})
	servicetest.WantViolation(t, err, "end_time")
	_, _, err = s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Format: 17})
	servicetest.WantViolation(t, err, "format")
}
