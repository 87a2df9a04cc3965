package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
)

const (
	// maxBatch is how many changes one statement returns, and a message has. They take less than 32 KiB in gRPC: it
	// keeps a message that is larger in a buffer of 1 MiB, which a stream holds for as long as its reader takes none.
	maxBatch = 250
	// maxScanned is how far one statement looks for changes that a filter selects.
	maxScanned = 20_000
	// maxNumbered is how many changes one transaction numbers, and maxTrimmed how many one deletes.
	maxNumbered = 1000
	maxTrimmed  = 2000
)

// Append adds changes to a transaction of postgres.InTx. Call it last, after the rows that it is about are locked, so
// that the changes of an owner are in the order of their commits. Call [Feed.Wake] after the commit.
func Append(tx *gorm.DB, changes ...Change) error {
	n := len(changes)
	if n == 0 {
		return nil
	}
	owners, kinds := make([]uuid.UUID, n), make([]string, n)
	subjects, versions, details := make([]uuid.UUID, n), make([]int64, n), make([]string, n)
	for i, c := range changes {
		owners[i], kinds[i], subjects[i], versions[i] = c.Owner, c.Kind, c.Subject, c.Version
		details[i] = c.Detail
	}
	return postgres.Raw(tx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(tx.Statement.Context, `INSERT INTO changes (owner_id, kind, subject_id, version, detail)
			SELECT owner, kind, subject, version, detail
			FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[]) WITH ORDINALITY
			  AS c (owner, kind, subject, version, detail, n)
			ORDER BY n`, owners, kinds, subjects, versions, details)
		if err != nil {
			return fmt.Errorf("note changes: %w", err)
		}
		return nil
	})
}

// Erase deletes up to limit changes of an owner, and once none is left adds the only one that stays: of this kind, so
// that readers learn of the erasure. It returns whether more may be left. Nothing may append for the owner any more.
func Erase(tx *gorm.DB, owner uuid.UUID, kind string, limit int) (more bool, err error) {
	done := tx.Exec(`DELETE FROM changes WHERE (owner_id, id) IN (
		SELECT owner_id, id FROM changes WHERE owner_id = ? AND kind <> ? LIMIT ?)`, owner, kind, limit)
	if done.Error != nil {
		return false, fmt.Errorf("erase changes: %w", done.Error)
	}
	if done.RowsAffected > 0 {
		return true, nil
	}
	var found bool
	err = tx.Raw("SELECT EXISTS (SELECT FROM changes WHERE owner_id = ? AND kind = ?)", owner, kind).Scan(&found).Error
	if err != nil {
		return false, fmt.Errorf("read changes: %w", err)
	}
	if found {
		return false, nil
	}
	return false, Append(tx, Change{Owner: owner, Kind: kind})
}

// number gives committed changes without a number the next ones, in the order of their ids, and returns how many. The
// lock makes such transactions run one after the other, each seeing what the one before has numbered; so a transaction
// that can see a number can see all lower ones. Of two changes of which one was committed before the other was
// appended, the first has the lower id, and whoever sees the second sees it too.
func number(ctx context.Context, db *postgres.DB) (n int, err error) {
	err = postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		var last int64
		if err := tx.Raw("SELECT last FROM change_feed FOR UPDATE").Scan(&last).Error; err != nil {
			return fmt.Errorf("lock the feed: %w", err)
		}
		var highest *int64
		err := tx.Raw(`WITH fresh AS (
				SELECT owner_id, id, row_number() OVER (ORDER BY id) AS n FROM changes
				WHERE number IS NULL ORDER BY id LIMIT ?),
			given AS (
				UPDATE changes c SET number = ? + f.n FROM fresh f WHERE c.owner_id = f.owner_id AND c.id = f.id
				RETURNING c.number)
			SELECT max(number) FROM given`, maxNumbered, last).Scan(&highest).Error
		if err != nil {
			return fmt.Errorf("number changes: %w", err)
		}
		if n = 0; highest == nil {
			return nil
		}
		n = int(*highest - last)
		if err := tx.Exec("UPDATE change_feed SET last = ?", *highest).Error; err != nil {
			return fmt.Errorf("move the feed: %w", err)
		}
		return nil
	})
	return n, err
}

// batch is a part of the feed, as of one moment.
type batch struct {
	id            uuid.UUID
	last, trimmed int64
	waiting       bool // something committed has no number yet
	changes       []Change
	end           int64 // how far the batch goes, what the filter leaves out included
}

type readRow struct {
	ID            uuid.UUID
	Last, Trimmed int64
	Waiting       bool
	Number        *int64
	OwnerID       uuid.UUID
	Kind          string
	SubjectID     uuid.UUID
	Version       int64
	Detail        string
	CreatedAt     time.Time
}

// read returns what a filter selects after a number, -1 for nothing, with the state of the feed at the same moment.
func read(ctx context.Context, db *postgres.DB, after int64, f Filter) (batch, error) {
	condition := "TRUE"
	args := map[string]any{"after": after, "until": after + maxScanned, "limit": maxBatch, "none": uuid.Nil}
	switch {
	case after < 0:
		condition = "FALSE"
	case f.Owner != uuid.Nil:
		condition, args["owner"] = "owner_id = @owner", f.Owner
	case f.Shards > 0:
		condition = "(owner_id = @none OR get_byte(uuid_send(owner_id), 15) % @shards = @shard)"
		args["shard"], args["shards"] = f.Shard, f.Shards
	}
	var rows []readRow
	err := db.Gorm(ctx).Raw(`SELECT f.id, f.last, f.trimmed,
			EXISTS (SELECT FROM changes WHERE number IS NULL) AS waiting, c.number,
			coalesce(c.owner_id, @none) AS owner_id, coalesce(c.kind, '') AS kind,
			coalesce(c.subject_id, @none) AS subject_id, coalesce(c.version, 0) AS version,
			coalesce(c.detail, '') AS detail,
			coalesce(c.created_at, now()) AS created_at
		FROM change_feed f LEFT JOIN LATERAL (
			SELECT * FROM changes
			WHERE number > @after AND number <= @until AND `+condition+`
			ORDER BY number LIMIT @limit) c ON true
		ORDER BY c.number`, args).Scan(&rows).Error
	if err != nil {
		return batch{}, fmt.Errorf("read changes: %w", err)
	}
	if len(rows) == 0 {
		return batch{}, fmt.Errorf("read changes: change_feed has no row")
	}
	b := batch{id: rows[0].ID, last: rows[0].Last, trimmed: rows[0].Trimmed, waiting: rows[0].Waiting}
	if b.end = b.last; after >= 0 {
		b.end = min(b.last, after+maxScanned)
	}
	for _, r := range rows {
		if r.Number != nil {
			b.changes = append(b.changes, Change{Number: *r.Number, Owner: r.OwnerID, Kind: r.Kind,
				Subject: r.SubjectID, Version: r.Version, Detail: r.Detail, At: r.CreatedAt})
		}
	}
	if n := len(b.changes); n == maxBatch {
		b.end = b.changes[n-1].Number
	}
	return b, nil
}

// Trim deletes the changes that are older than kept, in the order of the feed: one that was made long before its
// commit keeps those after it. It may run on several replicas at a time.
func (f *Feed) Trim(ctx context.Context, kept time.Duration) error {
	for more := true; more; {
		err := postgres.InTx(ctx, f.db, func(tx *gorm.DB) error {
			var to struct{ Until, Trimmed int64 }
			if err := tx.Exec("SELECT FROM change_feed FOR UPDATE").Error; err != nil {
				return fmt.Errorf("lock the feed: %w", err)
			}
			// A statement of its own, which sees all numbers that were given before the lock was.
			err := tx.Raw(`SELECT f.trimmed, least(f.trimmed + ?, coalesce((SELECT number - 1 FROM changes
					WHERE number > f.trimmed AND created_at >= now() - ? * interval '1 microsecond'
					ORDER BY number LIMIT 1), f.last)) AS until
				FROM change_feed f`, maxTrimmed, kept.Microseconds()).Scan(&to).Error
			if err != nil {
				return fmt.Errorf("find old changes: %w", err)
			}
			if more = to.Until > to.Trimmed; !more {
				return nil
			}
			if err := tx.Exec("DELETE FROM changes WHERE number <= ?", to.Until).Error; err != nil {
				return fmt.Errorf("trim changes: %w", err)
			}
			if err := tx.Exec("UPDATE change_feed SET trimmed = ?", to.Until).Error; err != nil {
				return fmt.Errorf("move the start of the feed: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
