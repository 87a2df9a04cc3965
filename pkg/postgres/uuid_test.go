package postgres_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// The control is a connection of pgx alone, which writes many small objects for each.
func TestUUIDsAreSentAsBytes(t *testing.T) {
	db := testkit.Postgres(t, accounts())
	ids := []uuid.UUID{uuid.New(), uuid.Nil, uuid.Max, uuid.New()}
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			rows, err := conn.Query(t.Context(), "SELECT id FROM unnest($1::uuid[]) id", ids)
			if err != nil {
				return err
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil || !slices.Equal(got, ids) {
				t.Errorf("%v come back as %v, %v", ids, got, err)
			}
			var none *uuid.UUID
			if err := conn.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&none); err != nil || none != nil {
				t.Errorf("NULL comes back as %v, %v", none, err)
			}
			allocated := func(m *pgtype.Map) float64 {
				buf := make([]byte, 0, 1024)
				return testing.AllocsPerRun(100, func() {
					if _, err := m.Encode(pgtype.UUIDArrayOID, pgx.BinaryFormatCode, ids, buf); err != nil {
						t.Error(err)
					}
				})
			}
			ours, control := allocated(conn.TypeMap()), allocated(pgtype.NewMap())
			if t.Logf("%v and %v allocations", ours, control); 2*ours > control {
				t.Errorf("%d take %v allocations, and those of pgx alone %v", len(ids), ours, control)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
