package partition

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
)

// Partitions implements Store. The statements are those of two functions of the service's schema, which run as the
// owner of the tables: the role that serves may make and drop partitions of the history, and nothing else.
//
//   - make_history_partition(parent text, month date) makes the partition of a month with the rows of it that are in
//     the default partition, and returns whether it was missing.
//   - drop_history_partition(parent text, month date) drops one with its rows; nothing if there is none.
//
// It is safe for concurrent use.
type Partitions struct {
	db     *postgres.DB
	log    *slog.Logger
	tables []Table

	mu    sync.Mutex
	known map[string]chan struct{} // partitions, closed when they were made or tried
}

var _ Store = (*Partitions)(nil)

// NewPartitions returns the partitions of tables in db.
func NewPartitions(db *postgres.DB, log *slog.Logger, tables ...Table) *Partitions {
	return &Partitions{db: db, log: log, tables: tables, known: map[string]chan struct{}{}}
}

// Tables implements Store.
func (s *Partitions) Tables() []Table { return s.tables }

// List implements Store.
func (s *Partitions) List(ctx context.Context) ([]Partition, error) {
	var names []string
	for _, t := range s.tables {
		names = append(names, t.Name)
	}
	var rows []struct {
		TableName string
		Name      string
		Month     *time.Time
		Bytes     int64
		RowCount  int64
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT p.relname AS table_name, c.relname AS name,
		       CASE WHEN pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
		       THEN to_timestamp(right(c.relname, 6) || ' +00', 'YYYYMM TZH') END AS month,
		       pg_total_relation_size(c.oid) AS bytes, c.reltuples::bigint AS row_count
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
		WHERE p.relname IN ? AND p.relnamespace = 'public'::regnamespace
		ORDER BY p.relname, month NULLS LAST`, names).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	out := make([]Partition, len(rows))
	for i, r := range rows {
		out[i] = Partition{Table: r.TableName, Name: r.Name, Bytes: r.Bytes, Rows: r.RowCount}
		if r.Month != nil {
			out[i].Month = r.Month.UTC()
			continue
		}
		if err := s.db.Gorm(ctx).Table(r.Name).Count(&out[i].Rows).Error; err != nil {
			return nil, fmt.Errorf("count rows without a partition: %w", err)
		}
	}
	return out, nil
}

// Make implements Store.
func (s *Partitions) Make(ctx context.Context, table string, month time.Time) (made bool, err error) {
	err = s.db.Gorm(ctx).Raw("SELECT make_history_partition(?::text, ?::date)", table, month.Format(time.DateOnly)).
		Row().Scan(&made)
	if err != nil {
		return false, fmt.Errorf("make the partition of %s for %s: %w", table, month.Format("2006-01"), err)
	}
	return made, nil
}

// Drop implements Store.
func (s *Partitions) Drop(ctx context.Context, table string, month time.Time) error {
	err := s.db.Gorm(ctx).Exec("SELECT drop_history_partition(?::text, ?::date)", table,
		month.Format(time.DateOnly)).Error
	if err != nil {
		return fmt.Errorf("drop the partition of %s for %s: %w", table, month.Format("2006-01"), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
	return nil
}

// Misplaced implements Store.
func (s *Partitions) Misplaced(ctx context.Context, t Table) (months []time.Time, err error) {
	err = s.db.Gorm(ctx).Raw("SELECT DISTINCT date_trunc('month', " + t.Hour + ", 'UTC') FROM " + t.Name +
		"_default ORDER BY 1").Scan(&months).Error
	if err != nil {
		return nil, fmt.Errorf("read rows without a partition: %w", err)
	}
	return months, nil
}

// Ensure makes the partitions of hours that are about to be stored, as far as it can: without one, rows go to the
// default partition, from which the job moves them. Calls that need the same one wait for the first.
func (s *Partitions) Ensure(ctx context.Context, hours []time.Time, tables ...string) {
	for _, hour := range hours {
		for _, table := range tables {
			if err := s.ensure(ctx, table, Month(hour)); err != nil {
				s.log.WarnContext(ctx, "a partition could not be made", "table", table, "error", err)
			}
		}
	}
}

func (s *Partitions) ensure(ctx context.Context, table string, month time.Time) error {
	key := table + month.Format("200601")
	s.mu.Lock()
	made, known := s.known[key]
	if !known {
		made = make(chan struct{})
		s.known[key] = made
	}
	s.mu.Unlock()
	if known {
		select {
		case <-made:
		case <-ctx.Done(): // which whoever stores the hours tells of
		}
		return nil
	}
	defer close(made)
	_, err := s.Make(ctx, table, month)
	return err
}
