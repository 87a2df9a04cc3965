package suitetest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// erasing are the services that have to erase what they have of deleted users.
func erasing() []string { return []string{"wallet", "portfolio"} }

// owned are the columns that say whose a row is.
const owned = "('owner_id', 'user_id', 'wallet_id', 'portfolio_id')"

// owner is somebody with data in every service, and the ids of what they have.
type owner struct {
	ctx context.Context //nolint:containedctx // of calls in their name
	id  string
	ids []string
}

// newOwner registers somebody and gives them a row in every table that can have one.
func newOwner(t *testing.T, s *suite.Suite, c *demo.Clients) owner {
	t.Helper()
	ctx, tokens := signIn(t, c)
	made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
		Account: account(s, s.Chain.Holders()[0]), RequestId: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Portfolios.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{
		StartTime: timestamppb.New(time.Now().Add(-5 * time.Hour)), EndTime: timestamppb.Now()}); err != nil {
		t.Fatal(err)
	}
	wallet := made.GetWallet().GetId()
	if _, err := c.Portfolios.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Vault",
		WalletIds: []string{wallet}, RequestId: uuid.NewString()}); err != nil {
		t.Fatal(err)
	}
	// What a search for transactions, a proof of ownership, and markets leave.
	conn, err := pgx.Connect(ctx, s.Postgres.URL("purser_wallet"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, add := range []string{
		"INSERT INTO transaction_scans (wallet_id, scanned_block) VALUES ($1, 1) ON CONFLICT DO NOTHING",
		"INSERT INTO wallet_tokens (wallet_id, token_id, first_block) SELECT $1, min(id), 1 FROM tokens",
		"INSERT INTO ownership_challenges (wallet_id, message, expires_at) VALUES ($1, 'sign this', now())",
		"INSERT INTO position_markets (wallet_id, market, block_number, block_time) VALUES ($1, 'm', 1, now())",
		`INSERT INTO positions (wallet_id, market, kind, asset, amount, block_number, block_time)
		 VALUES ($1, 'm', 'STAKED', 'a', 1, 1, now())`,
		"INSERT INTO position_history (wallet_id, hour, markets) VALUES ($1, date_trunc('hour', now()), '[]')",
	} {
		if _, err := conn.Exec(ctx, add, wallet); err != nil {
			t.Fatal(err)
		}
	}
	id := claimsOf(t, tokens.GetAccessToken()).Subject
	makeAlert(t, s, c, ctx, id)
	portfolios, err := pgx.Connect(ctx, s.Postgres.URL("purser_portfolio"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = portfolios.Close(context.Background()) }()
	_, err = portfolios.Exec(ctx, `
		INSERT INTO lot_identifications (owner_id, id, wallet_id, token_id, transaction_hash, lots, quantities,
		                                 recorded_at)
		VALUES ($1, gen_random_uuid(), $2, 't', '', '{lot}', '{1}', now())`, id, wallet)
	if err != nil {
		t.Fatal(err)
	}
	return owner{ctx, id, []string{id, made.GetWallet().GetId(), p.GetPortfolio().GetId()}}
}

// rows returns the rows of each table of a service that name one of these ids, as text. What is stored of deletions
// themselves is left out.
func rows(t *testing.T, s *suite.Suite, service string, ids []string) map[string]string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_"+service))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	tables := column(t, conn, `SELECT table_name FROM information_schema.tables
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
		  AND table_name NOT IN ('erased_owners', 'cache_invalidations')`)
	found := map[string]string{}
	for _, table := range tables {
		text := "x::text"
		if table == "alert_owners" { // the rest is when the service looks at rules
			text = "x.owner_id::text"
		}
		list := column(t, conn, "SELECT "+text+" FROM "+pgx.Identifier{table}.Sanitize()+
			" x WHERE x::text LIKE ANY($1) AND x::text NOT LIKE '%,OWNER_ERASED,%' ORDER BY 1", like(ids))
		if len(list) > 0 {
			found[table] = strings.Join(list, "\n")
		}
	}
	return found
}

func like(ids []string) (patterns []string) {
	for _, id := range ids {
		patterns = append(patterns, "%"+id+"%")
	}
	return patterns
}

func column(t *testing.T, conn *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	result, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wantEveryTable fails the test unless each table that can have rows of somebody is among those that were found, so
// that a new table is part of the test.
func wantEveryTable(t *testing.T, s *suite.Suite, service string, found map[string]string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_"+service))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, table := range column(t, conn, `SELECT DISTINCT table_name FROM information_schema.columns
		JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND column_name IN `+owned+`
		  AND table_name <> 'erased_owners'
		  AND NOT (SELECT relispartition FROM pg_class
		           WHERE oid = ('public.' || quote_ident(table_name))::regclass)`) {
		if found[table] == "" {
			t.Errorf("%s has a table %s of somebody's data, in which this test has nothing", service, table)
		}
	}
}

// withoutScheduledJobs keeps the scheduled jobs from adding to the data of the test.
func withoutScheduledJobs(o *suite.Options) {
	o.Extra = map[string][]string{"portfolio": {"PURSER_SNAPSHOT_CRON=0 0 29 2 *", "PURSER_RECOMPUTE_CRON=0 0 29 2 *"},
		"wallet": {"PURSER_SYNC_CRON=0 0 29 2 *", "PURSER_TRANSACTIONS_CRON=0 0 29 2 *"}}
}

// Users delete their accounts while the services that have their data are stopped, started and stopped again.
func TestTheDataOfDeletedUsersIsErasedEverywhereAcrossRestarts(t *testing.T) {
	t.Parallel()
	restarts := 3
	if os.Getenv("PURSER_PROVE") != "" {
		restarts = 20
	}
	s := start(t, withoutScheduledJobs)
	c := dial(t, s.Endpoints)
	root := signInAdmin(t, s, c)
	var leaving, staying []owner
	for range restarts + 1 {
		leaving = append(leaving, newOwner(t, s, c))
	}
	for range 2 {
		staying = append(staying, newOwner(t, s, c))
	}
	before := map[string]map[string]string{}
	for _, service := range erasing() {
		before[service] = rows(t, s, service, idsOf(staying))
		wantEveryTable(t, s, service, before[service])
		wantEveryTable(t, s, service, rows(t, s, service, idsOf(leaving)))
	}
	for i, o := range leaving {
		service := erasing()[i%2]
		if i < restarts {
			if err := s.StopService(service); err != nil {
				t.Fatal(err)
			}
		}
		if i%3 == 2 {
			if _, err := c.Deletions.DeleteUser(root, &authv1.DeleteUserRequest{UserId: o.id}); err != nil {
				t.Fatal(err)
			}
		} else if _, err := c.Accounts.DeleteMe(o.ctx, &authv1.DeleteMeRequest{}); err != nil {
			t.Fatal(err)
		}
		if i < restarts {
			if err := s.RestartService(t.Context(), service); err != nil {
				t.Fatal(err)
			}
		}
	}
	begun := time.Now()
	for _, o := range leaving {
		waitUntilErased(t, c, root, o)
	}
	t.Logf("figure: %d restarts, %d users erased %s after the last restart", restarts, len(leaving),
		time.Since(begun).Round(time.Millisecond))
	for _, service := range erasing() {
		if left := rows(t, s, service, idsOf(leaving)); len(left) > 0 {
			t.Errorf("%s still has %v", service, left)
		}
		if after := rows(t, s, service, idsOf(staying)); !maps.Equal(after, before[service]) {
			t.Errorf("the data of others in %s became\n%v\nfrom\n%v", service, after, before[service])
		}
	}
	unerased, err := c.Deletions.ListUserDeletions(root, &authv1.ListUserDeletionsRequest{Unerased: true})
	if err != nil || len(unerased.GetDeletions()) > 0 {
		t.Errorf("unerased are %v, %v", unerased, err)
	}
}

// waitUntilErased waits until every service has reported that it erased what it had of somebody.
func waitUntilErased(t *testing.T, c *demo.Clients, root context.Context, o owner) {
	t.Helper()
	testkit.Eventually(t, 2*time.Minute, func() bool {
		got, err := c.Deletions.GetDeletion(root, &authv1.GetDeletionRequest{UserId: o.id})
		if err != nil {
			t.Fatal(err)
		}
		if !got.GetDeletion().GetErased() {
			return false
		}
		var names []string
		for _, e := range got.GetDeletion().GetServices() {
			names = append(names, e.GetService())
		}
		if !slices.Equal(names, []string{"portfolio", "wallet"}) {
			t.Fatalf("reported by %v", names)
		}
		return true
	})
}

func idsOf(owners []owner) (ids []string) {
	for _, o := range owners {
		ids = append(ids, o.ids...)
	}
	return ids
}

// A service that begins with the newest deletion, as one without a stored cursor would, misses those before; what
// goes through all that there is finds them. It also is what a restored backup of the service needs.
func TestTheSweepFindsWhomTheListMissed(t *testing.T) {
	t.Parallel()
	s := start(t, withoutScheduledJobs)
	c := dial(t, s.Endpoints)
	root := signInAdmin(t, s, c)
	gone, stays := newOwner(t, s, c), newOwner(t, s, c)
	before := rows(t, s, "wallet", stays.ids)
	if err := s.StopService("wallet"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Accounts.DeleteMe(gone.ctx, &authv1.DeleteMeRequest{}); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_wallet"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), "UPDATE erasure_cursor SET cursor = 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.RestartService(t.Context(), "wallet"); err != nil {
		t.Fatal(err)
	}
	jobs := walletJobs(t, s)
	run := func(job string) {
		t.Helper()
		if _, err := jobs.TriggerJob(root, &jobsv1.TriggerJobRequest{Job: job}); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, time.Minute, func() bool {
			resp, err := jobs.ListJobRuns(root, &jobsv1.ListJobRunsRequest{Job: job})
			return err == nil && slices.ContainsFunc(resp.GetRuns(), func(r *jobsv1.JobRun) bool {
				return r.GetManual() && r.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DONE
			})
		})
	}
	run("erase_deleted_users")
	if len(rows(t, s, "wallet", gone.ids)) == 0 {
		t.Fatal("nothing was missed: the test proves nothing")
	}
	run("sweep_deleted_users")
	if left := rows(t, s, "wallet", gone.ids); len(left) > 0 {
		t.Errorf("wallet still has %v", left)
	}
	if after := rows(t, s, "wallet", stays.ids); !maps.Equal(after, before) {
		t.Errorf("the data of others became\n%v\nfrom\n%v", after, before)
	}
}

// A user with a token that is still accepted, as where the revocation has not arrived, gets nothing back into the
// services once they are erased.
func TestADeletedUserGetsNoNewData(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	root := signInAdmin(t, s, c)
	gone := newOwner(t, s, c)
	stop := make(chan struct{})
	ended := make(chan int)
	go func() { // creates wallets until it is refused
		made := 0
		for {
			select {
			case <-stop:
				ended <- made
				return
			default:
			}
			_, err := c.Wallets.CreateWallet(gone.ctx, &walletv1.CreateWalletRequest{
				Account: fmt.Sprintf("eip155:%d:0x%040x", s.Chain.ChainID(), made+1), RequestId: uuid.NewString()})
			if err == nil {
				made++
			}
		}
	}()
	if _, err := c.Deletions.DeleteUser(root, &authv1.DeleteUserRequest{UserId: gone.id}); err != nil {
		t.Fatal(err)
	}
	waitUntilErased(t, c, root, gone)
	close(stop)
	t.Logf("figure: %d wallets were made while the account was deleted", <-ended)
	for _, service := range erasing() {
		if left := rows(t, s, service, gone.ids[:1]); len(left) > 0 {
			t.Errorf("%s still has %v", service, left)
		}
	}
}
