package policy_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	kit "github.com/purserhq/purser/pkg/testkit" // testkit is a function here
	authapp "github.com/purserhq/purser/services/auth/app"
	portfolioapp "github.com/purserhq/purser/services/portfolio/app"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

func TestMain(m *testing.M) { kit.Main(m) }

// ownerKeys are the columns by which the rows of users can be distributed.
var ownerKeys = []string{"owner_id", "user_id", "wallet_id", "portfolio_id"}

// growth says what of a schema can't be distributed by its owners' keys.
type growth struct {
	files fs.FS
	// roots are the tables whose id is the owner's key of others.
	roots []string
	// shared are the tables that are not of users, with the reason. Every node of a distributed database has them.
	shared map[string]string
	// exempt are tables, constraints and indexes of users that break the rule, with the reason.
	exempt map[string]string
}

// jobTables are those of pkg/jobs and pkg/cache.
func jobTables(more map[string]string) map[string]string {
	all := map[string]string{
		"job_schedules":       "the service's own schedule",
		"job_runs":            "the service's own runs, a row for each tick and shard",
		"cache_invalidations": "an outbox that is emptied within seconds",
	}
	maps.Copy(all, more)
	return all
}

// growths are the rules of the services' schemas.
func growths() map[string]growth {
	erasure := "how far the service's own list of deletions was followed"
	return map[string]growth{
		"wallet": {files: walletapp.Migrations().Files, roots: []string{"wallets"},
			shared: jobTables(map[string]string{
				"tokens":          "the token list, which is everybody's",
				"prices":          "of tokens, which are everybody's",
				"imported_prices": "of tokens, which are everybody's",
				"price_history":   "of tokens, which are everybody's",
				"chain_blocks":    "of chains, which are everybody's",
				"chain_heads":     "of chains, which are everybody's",
				"chain_hours":     "of chains, which are everybody's",
				"chain_resets":    "of chains, which are everybody's",
				"scanned_blocks":  "of chains, which are everybody's",
				"change_feed":     "one row: the last number of the feed",
				"erasure_cursor":  erasure,
			}),
			exempt: map[string]string{
				"wallets_owner_account_key": "an owner has an account once, while the other tables go by wallet: " +
					"wallets itself grows with accounts and not with time, and stays on one node",
			}},
		"portfolio": {files: portfolioapp.Migrations().Files, roots: []string{"portfolios"},
			shared: jobTables(map[string]string{
				"assets":              "versions of tokens, which are everybody's",
				"places":              "protocols and their markets, which are everybody's",
				"hour_prices":         "of tokens, which are everybody's",
				"hour_price_sequence": "one row: the last number of hour_prices",
				"currency_rates":      "of currencies, which are everybody's",
				"price_changes":       "of tokens, which are everybody's; emptied within minutes",
				"price_change_cursor": "one row: how far wallet's feed was followed",
				"change_feed":         "one row: the last number of the feed",
				"erasure_cursor":      erasure,
			}),
			exempt: map[string]string{
				"portfolios_one_default": "an owner has one default portfolio, while the other tables go by " +
					"portfolio: portfolios itself grows with accounts and not with time, and stays on one node",
			}},
		"auth": {files: authapp.Migrations().Files, roots: []string{"users"},
			shared: jobTables(map[string]string{
				"service_accounts": "accounts of services, made by operators",
				"service_secrets":  "accounts of services, made by operators",
				"erasure_reports":  "what services have erased, by the service",
				"key_ring":         "the service's own keys",
				"signing_keys":     "the service's own keys",
				"revocations":      "one stream in one order, which every verifier follows whole",
				"deletions":        "one list in one order, which every service follows whole",
				"deletion_counter": "one row: the last number of deletions",
				"audit_events":     "one record that is sealed as a whole",
				"audit_personal":   "goes with audit_events",
				"audit_seals":      "the seals of the whole record",
				"used_challenges":  "hashes that are no user's yet, kept for minutes",
			}),
			// Whoever signs in is not known yet: an address, a code or a token says who it is. These tables grow with
			// accounts and not with time, and what is over is pruned.
			exempt: map[string]string{
				"users_email_key":             "an address is of one user of all",
				"identities_provider_subject": "an identity is of one user of all, who is found by it",
				"identities_pkey":             "goes with identities_provider_subject",
				"mailed_codes_pkey":           "the code says whose it is",
				"sessions_pkey":               "a refresh token says its session, and the session whose it is",
				"sessions_device":             "sessions have one device at most, by its id",
				"refresh_tokens":              "the token says whose it is",
				"api_keys_hash_key":           "the key says whose it is",
				"api_keys_pkey":               "goes with api_keys_hash_key",
				"known_devices_pkey":          "sessions refer to it by its id",
				"mails":                       "some are to addresses without an account",
			}},
	}
}

// unique is a primary key, a unique constraint or a unique index.
type unique struct {
	table, name string
	first       string // its first column; "" of an expression
}

// reference is a foreign key, by the first columns of its two sides.
type reference struct{ table, name, column, target, targetColumn string }

// catalog is what a database's pg_catalog says. Partitions are as their tables.
type catalog struct {
	tables     map[string][]string // owners' keys that cannot be NULL
	uniques    []unique
	references []reference
}

func readCatalog(ctx context.Context, db *sql.DB) (c catalog, err error) {
	c.tables = map[string][]string{}
	each := func(query string, add func(scan func(...any) error) error) {
		rows, queryErr := db.QueryContext(ctx, query)
		if queryErr != nil {
			err = queryErr
			return
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() && err == nil {
			err = add(rows.Scan)
		}
		if err == nil {
			err = rows.Err()
		}
	}
	each(`SELECT t.relname, coalesce(string_agg(a.attname, ' ' ORDER BY a.attname) FILTER (WHERE a.attnotnull), '')
		FROM pg_class t LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
		WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition
		  AND t.relname NOT LIKE 'goose%' GROUP BY t.relname`, func(scan func(...any) error) error {
		var table, columns string
		err := scan(&table, &columns)
		keys := []string{}
		for _, column := range strings.Fields(columns) {
			if slices.Contains(ownerKeys, column) {
				keys = append(keys, column)
			}
		}
		c.tables[table] = keys
		return err
	})
	each(`SELECT t.relname, i.relname, coalesce(a.attname, '')
		FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
		LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
		WHERE x.indisunique AND t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
		  AND t.relname NOT LIKE 'goose%'`, func(scan func(...any) error) error {
		var u unique
		err := scan(&u.table, &u.name, &u.first)
		c.uniques = append(c.uniques, u)
		return err
	})
	each(`SELECT t.relname, f.conname, a.attname, r.relname, b.attname
		FROM pg_constraint f JOIN pg_class t ON t.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
		JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = f.conkey[1]
		JOIN pg_attribute b ON b.attrelid = r.oid AND b.attnum = f.confkey[1]
		WHERE f.contype = 'f' AND t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
		  AND f.conparentid = 0`, func(scan func(...any) error) error {
		var r reference
		err := scan(&r.table, &r.name, &r.column, &r.target, &r.targetColumn)
		c.references = append(c.references, r)
		return err
	})
	return c, err
}

// breaks lists what of a catalog breaks the rule: every table of users has one owner's key, which is first in its
// primary key and in each unique constraint and index, and a foreign key begins with it on both sides or leads to a
// shared table. It also lists what of g is about nothing.
func (g growth) breaks(c catalog) (found []string) {
	used := map[string]bool{}
	report := func(table, name, text string) {
		for _, excused := range []string{table, name} {
			if g.exempt[excused] != "" {
				used[excused] = true
				return
			}
		}
		found = append(found, name+" "+text)
	}
	key := map[string]string{} // of the tables of users
	for table, keys := range c.tables {
		switch {
		case g.shared[table] != "":
			used[table] = true
		case slices.Contains(g.roots, table):
			key[table], used[table] = "id", true
		case len(keys) == 0:
			report(table, table, "has no owner's key, one of "+strings.Join(ownerKeys, ", "))
		default:
			key[table] = keys[0]
		}
	}
	primary := map[string]bool{}
	for _, u := range c.uniques {
		primary[u.table] = true
		if of := key[u.table]; of != "" && u.first != of {
			report(u.table, u.name,
				fmt.Sprintf("of %s begins with %q, not with the owner's key %s", u.table, u.first, of))
		}
	}
	for table := range c.tables {
		if !primary[table] {
			report(table, table, "has no primary key")
		}
	}
	for _, r := range c.references {
		mine, theirs := key[r.table], key[r.target]
		if g.shared[r.target] == "" && (mine == "" || r.column != mine || r.targetColumn != theirs) {
			report(r.table, r.name, fmt.Sprintf("leads from %s(%s) to %s(%s), out of one owner's rows", r.table,
				r.column, r.target, r.targetColumn))
		}
	}
	for _, list := range []map[string]string{g.shared, g.exempt} {
		for name := range list {
			if !used[name] {
				found = append(found, name+" is listed, and nothing needs that")
			}
		}
	}
	slices.Sort(found)
	return found
}

// Data of users can be distributed by its owner: see the decision on growth.
func TestDataOfUsersGoesByItsOwner(t *testing.T) {
	for service, g := range growths() {
		t.Run(service, func(t *testing.T) {
			c, err := readCatalog(t.Context(), kit.Postgres(t, g.files).SQL())
			if err != nil || len(c.tables) < 10 || len(c.references) == 0 {
				t.Fatalf("%d tables, %v", len(c.tables), err)
			}
			for _, text := range g.breaks(c) {
				t.Error(text)
			}
		})
	}
}

// The control: what breaks the rule is found.
func TestATableThatDoesNotGoByItsOwnerIsFound(t *testing.T) {
	g := growths()["portfolio"]
	db := kit.Postgres(t, g.files).SQL()
	if _, err := db.ExecContext(t.Context(), `
		CREATE TABLE unkeyed (id uuid PRIMARY KEY);
		CREATE TABLE notes (id uuid PRIMARY KEY, owner_id uuid NOT NULL, UNIQUE (owner_id, id));
		CREATE TABLE optional (owner_id uuid, n int);
		CREATE TABLE albums (portfolio_id uuid NOT NULL, n int, note uuid REFERENCES notes (id),
			owner_id uuid NOT NULL, PRIMARY KEY (portfolio_id, n));
		CREATE UNIQUE INDEX albums_by_text ON albums (md5(n::text));
		ALTER TABLE albums DROP COLUMN owner_id`); err != nil {
		t.Fatal(err)
	}
	g.shared = maps.Clone(g.shared)
	g.shared["gone"] = "it was there once"
	c, err := readCatalog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`albums_by_text of albums begins with "", not with the owner's key portfolio_id`,
		"albums_note_fkey leads from albums(note) to notes(id), out of one owner's rows",
		"gone is listed, and nothing needs that",
		`notes_pkey of notes begins with "id", not with the owner's key owner_id`,
		"optional has no owner's key, one of owner_id, user_id, wallet_id, portfolio_id",
		"optional has no primary key",
		"unkeyed has no owner's key, one of owner_id, user_id, wallet_id, portfolio_id",
	}
	if got := g.breaks(c); !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
