package suitetest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// workers are how many users call all the while, each in kindsOfCalls ways.
const workers, kindsOfCalls = 6, 6

// faulty are the three services as programs, whose ways to Postgres and Redis can be disturbed.
type faulty struct {
	*testing.T
	b         *suite.Infrastructure
	environ   map[string][]string
	running   map[string]*process
	pg, redis *faultproxy.Proxy
	load      *worked
}

// startFaulty starts them, and the users.
func startFaulty(t *testing.T) *faulty {
	t.Helper()
	port := func() int {
		_, text, err := net.SplitHostPort(unusedAddr(t))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	unlimited := []string{"PURSER_GRPC_RATE_PER_SECOND=100000", "PURSER_GRPC_BURST=100000"}
	b, err := suite.StartInfrastructure(t.Context(), suite.Options{Dir: testkit.Folder(t), History: history,
		Durable: true, Ports: suite.Ports{Auth: port(), AuthHTTP: port(), Wallet: port(), Portfolio: port()},
		Extra: map[string][]string{"auth": unlimited, "wallet": unlimited, "portfolio": unlimited}})
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{T: t, b: b, environ: map[string][]string{}, running: map[string]*process{}}
	f.pg, f.redis = f.proxy("PURSER_DATABASE_URL"), f.proxy("PURSER_REDIS_URL")
	e, started := startProcesses(t, b, f.disturbed)
	for i, service := range []string{"auth", "wallet", "portfolio"} {
		f.running[service] = started[i]
	}
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		f.mayFail(service)
	}
	f.load = startWork(t, dial(t, e), fmt.Sprintf("eip155:%d", b.Chain.ChainID()))
	return f
}

// proxy starts a proxy before the server that a variable names.
func (f *faulty) proxy(variable string) *faultproxy.Proxy {
	f.Helper()
	for _, v := range f.b.AuthEnviron() {
		if raw, ok := strings.CutPrefix(v, variable+"="); ok {
			_, host, _ := strings.Cut(raw, "@")
			if host == "" {
				_, host, _ = strings.Cut(raw, "://")
			}
			host, _, _ = strings.Cut(host, "/")
			p, err := faultproxy.Start(host)
			if err != nil {
				f.Fatal(err)
			}
			f.Cleanup(p.Close)
			return p
		}
	}
	f.Fatalf("no %s", variable)
	return nil
}

// disturbed has a service go through the proxies, also when it is started again.
func (f *faulty) disturbed(service string, environ []string) []string {
	for i, v := range environ {
		for variable, p := range map[string]*faultproxy.Proxy{"PURSER_DATABASE_URL": f.pg,
			"PURSER_REDIS_URL": f.redis} {
			if raw, ok := strings.CutPrefix(v, variable+"="); ok {
				environ[i] = variable + "=" + p.Rewrite(raw)
			}
		}
	}
	f.environ[service] = environ
	return environ
}

// killed ends a service by SIGKILL and starts it again.
func (f *faulty) killed(service string) {
	f.Helper()
	_ = f.running[service].end(f.T, syscall.SIGKILL)
	f.running[service] = launch(f.T, filepath.Join(builtPrograms(f.T), service), f.environ[service])
}

// exec runs statements on the database of a service, past the proxy.
func (f *faulty) exec(service string, statements ...string) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.b.Postgres.URL("purser_"+service))
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(f.Context())) }()
	for _, s := range statements {
		if _, err := conn.Exec(f.Context(), s); err != nil {
			f.Fatal(err)
		}
	}
}

// mayFail prepares failing, before there are calls that the triggers would have to wait for.
func (f *faulty) mayFail(service string) {
	f.exec(service, "CREATE TABLE failing (share float8)", "INSERT INTO failing (share) VALUES (0)",
		"GRANT SELECT ON failing TO PUBLIC", `CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF random() < (SELECT share FROM failing) THEN
				RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
			END IF;
			RETURN NULL; END $$`, `DO $$ DECLARE n text; BEGIN FOR n IN SELECT format('%I', relname) FROM pg_class
			WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition
				AND relname <> 'failing'
			LOOP EXECUTE 'CREATE TRIGGER fails AFTER INSERT OR UPDATE OR DELETE ON ' || n ||
				' EXECUTE FUNCTION fails()';
			END LOOP; END $$`)
}

// failing has a share of the statements that write fail as Postgres fails them when two transactions can't be put in
// an order.
func (f *faulty) failing(share float64) {
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		f.exec(service, fmt.Sprintf("UPDATE failing SET share = %g", share))
	}
}

// Faults of what the three services stand on, and of themselves, while users work. Calls end with a code that tells
// them to try again, everything works seconds after the fault has ended, and what was acknowledged is there once.
func TestUnderFaultsNothingIsLostAndNothingIsThereTwice(t *testing.T) {
	t.Parallel()
	f := startFaulty(t)
	f.load.recovered(t, time.Now())
	if got, _ := f.load.errors(); len(got) > 0 {
		t.Errorf("without any fault: %v", got)
	}
	away := faultproxy.Fault{Latency: 100 * time.Millisecond}
	for _, fault := range []struct {
		name       string
		begin, end func()
	}{
		{"200 ms to Postgres", func() { f.pg.ToServer(away); f.pg.ToClient(away) }, f.pg.Heal},
		{"Postgres swallows everything", func() { f.pg.ToServer(faultproxy.Fault{Blackhole: true}) }, f.pg.Heal},
		{"Postgres is killed", f.b.Postgres.Kill, func() { f.must(f.b.Postgres.Restart(t.Context())) }},
		{"200 ms to Redis", func() { f.redis.ToServer(away); f.redis.ToClient(away) }, f.redis.Heal},
		{"Redis swallows everything", func() { f.redis.ToServer(faultproxy.Fault{Blackhole: true}) }, f.redis.Heal},
		{"Redis is killed", f.b.Redis.Kill, func() { f.must(f.b.Redis.Restart(t.Context())) }},
	} {
		f.under(fault.name, fault.begin, fault.end)
	}
	f.under("5 % of the writes can't be serialized", func() { f.failing(0.05) }, func() { f.failing(0) })
	for i := range testkit.Size(3, 21) {
		service := []string{"wallet", "portfolio", "auth"}[i%3]
		f.under(service+" is killed", func() {}, func() { f.killed(service) })
	}
	f.load.end()
	f.counted()
}

func (f *faulty) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// under has users work under a fault, and checks how calls ended and how soon all is well again.
func (f *faulty) under(name string, begin, end func()) {
	f.Helper()
	f.load.errors()
	begin()
	// Each has called twice at least meanwhile, and at full size for a while.
	enough, lasts := f.load.calls.Load()+2*workers, time.After(time.Duration(testkit.Size(1, 20))*time.Second)
	testkit.Eventually(f.T, time.Minute, func() bool { return f.load.calls.Load() >= enough })
	<-lasts
	end()
	took := f.load.recovered(f.T, time.Now())
	got, wrong := f.load.errors()
	testkit.Figure(f.T, "%s: all is well after %s; refused meanwhile %v", name, took.Round(10*time.Millisecond), got)
	for _, err := range wrong {
		f.Errorf("%s: %s", name, err)
	}
	if limit := time.Duration(testkit.Size(30, 5)) * time.Second; took > limit {
		f.Errorf("%s: all is well only after %s, want %s at most", name, took, limit)
	}
}

// counted holds what is stored against what was acknowledged.
func (f *faulty) counted() {
	f.Helper()
	rows := 0
	for _, u := range f.load.users {
		ids, page := map[string]int{}, ""
		for {
			got, err := f.load.c.Transactions.ListTransactions(u.ctx, &walletv1.ListTransactionsRequest{
				WalletId: u.wallet, PageSize: 500, PageToken: page, Kinds: []walletv1.TransactionKind{
					walletv1.TransactionKind_TRANSACTION_KIND_TRANSFER}})
			if err != nil {
				f.Fatal(err)
			}
			for _, tx := range got.GetTransactions() {
				ids[tx.GetRowId()]++
			}
			if page = got.GetNextPageToken(); page == "" {
				break
			}
		}
		for i := range u.rows {
			if n := ids[fmt.Sprint("row-", i)]; n != 1 {
				f.Errorf("a row that was acknowledged is there %d times", n)
			}
		}
		if len(ids) != u.rows {
			f.Errorf("%d rows, of which %d were acknowledged: %v", len(ids), u.rows, slices.Sorted(maps.Keys(ids)))
		}
		rows += u.rows
		list, err := f.load.c.Portfolios.ListPortfolios(u.ctx, &portfoliov1.ListPortfoliosRequest{})
		if err != nil || len(list.GetPortfolios()) != 1 {
			f.Errorf("portfolios %v, %v: want the default one alone", list, err)
		}
	}
	testkit.Figure(f.T, "%d rows were acknowledged, and each is there once", rows)
	if rows < workers {
		f.Error("hardly anything was done")
	}
}
