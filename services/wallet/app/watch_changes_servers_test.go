package app_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// seen counts how often the changes of wallets came. It is safe for concurrent use.
type seen struct {
	mu     sync.Mutex
	counts map[string]int
}

func newSeen() *seen { return &seen{counts: map[string]int{}} }

func (s *seen) add(changes []*walletv1.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		s.counts[c.GetKind().String()+" of "+c.GetWalletId()]++
	}
}

func (s *seen) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.counts)
}

// want checks that there are n changes, each once.
func (s *seen) want(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts) != n {
		t.Errorf("%d changes came of %d", len(s.counts), n)
	}
	for what, times := range s.counts {
		if times != 1 {
			t.Errorf("%s came %d times", what, times)
		}
	}
}

// Two replicas behind a PgBouncer that has three connections of the server for all of theirs. Readers leave after a
// few changes, and go on at the other replica.
func TestTheFeedAndPartitionsBehindPgBouncerInTransactionMode(t *testing.T) {
	db, issuer := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	through := *db
	through.URL = testkit.PgBouncer(t, db.URL, "transaction", true, "default_pool_size = 3")
	redis := testkit.Redis(t).URL()
	start := func() service {
		return replica(t, &through, issuer, redis, tokenList, io.Discard, "PURSER_DATABASE_PGBOUNCER=true",
			"PURSER_HISTORY_MONTHS_AHEAD=9")
	}
	replicas := []service{start(), start()}
	reader := replicas[0].may(t, "wallet:read", "wallet:any")
	const writers, each = 4, 25
	found := newSeen()
	var readers, writing sync.WaitGroup
	for shard := range int32(2) {
		part := &walletv1.Shard{Number: shard, Count: 2}
		stream, stop := replicas[0].watch(reader, t, &walletv1.WatchChangesRequest{Shard: part})
		_, cursor := kinds(t, stream, 0)
		stop()
		readers.Go(func() {
			for turn := 0; found.len() < writers*each; turn++ {
				ctx, stop := context.WithTimeout(reader, 2*time.Second)
				stream, err := replicas[turn%2].holdings.WatchChanges(ctx,
					&walletv1.WatchChangesRequest{Cursor: cursor, Shard: part})
				for range 5 {
					var m *walletv1.WatchChangesResponse
					if err == nil {
						m, err = stream.Recv()
					}
					if err != nil {
						break // its time is over
					}
					found.add(m.GetChanges())
					cursor = m.GetCursor()
				}
				stop()
				if t.Context().Err() != nil {
					return
				}
			}
		})
	}
	for w := range writers {
		ctx := replicas[0].user(t)
		writing.Go(func() {
			for i := range each {
				_, err := replicas[(w+i)%2].wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
					Account: fmt.Sprintf("eip155:1:0x%040x", i), AllowUnconfiguredChain: true})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	readers.Wait()
	found.want(t, writers*each)
	var connections int
	if err := db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'purser-%' AND pid <> pg_backend_pid()`).
		Scan(&connections); err != nil || connections == 0 || connections > 3 {
		t.Errorf("they used %d connections of the server, %v: nothing was shared", connections, err)
	}

	month := time.Now().UTC().AddDate(0, 0, 1-time.Now().UTC().Day()).AddDate(0, 8, 0).Format("200601")
	missing := func() (n int) {
		if err := db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FROM
			unnest(ARRAY['wallet_history', 'balance_history', 'price_history']) AS t
			WHERE to_regclass(t || '_' || $1::text) IS NULL`, month).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := missing(); n != 3 {
		t.Fatalf("%d partitions of %s are missing before the job, want 3", n, month)
	}
	replicas[1].run(t, "make_partitions")
	if n := missing(); n != 0 {
		t.Errorf("%d partitions of %s are missing after the job", n, month)
	}
	if out, err := replicas[0].command(t, noNodes, "partitions"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// stoppable runs a replica that ends when stop is called, as at a rolling restart; stop waits for its end.
func stoppable(t *testing.T, db *testkit.DB, i *servicetest.Issuer, redisURL string) (s service, stop func()) {
	t.Helper()
	addr, stop := stoppableAt(t, db, i, redisURL)
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); _ = conn.Close() })
	return service{db: db, issuer: i, wallets: walletv1.NewWalletServiceClient(conn),
		holdings: walletv1.NewHoldingsServiceClient(conn)}, stop
}

func stoppableAt(t *testing.T, db *testkit.DB, i *servicetest.Issuer, redisURL string,
	more ...string) (addr string, stop func()) {
	t.Helper()
	cfg, err := app.Load(append(more, "PURSER_DATABASE_URL="+db.URL, "PURSER_REDIS_URL="+redisURL,
		"PURSER_ISSUER="+i.URL, "PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true",
		"PURSER_GRPC_BURST=10000", "PURSER_SYNC_CRON="+never, "PURSER_CHAIN_RPC_URLS=137=http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return a.Addr(), stop
}

// Replicas are replaced one after the other while wallets are made. The control is a reader that opens each stream
// without its cursor.
func TestARollingRestartLosesNoChange(t *testing.T) {
	db, issuer, redis := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t), testkit.Redis(t).URL()
	now, stop := stoppable(t, db, issuer, redis)
	ctx := now.user(t)
	found, control := newSeen(), newSeen()
	cursor, total := "", 0
	make1 := func(s service) {
		t.Helper()
		_, err := s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
			Account: fmt.Sprintf("eip155:1:0x%040x", total), AllowUnconfiguredChain: true})
		if err != nil {
			t.Fatal(err)
		}
		total++
	}
	for range 3 {
		stream, _ := now.watch(ctx, t, &walletv1.WatchChangesRequest{Cursor: cursor})
		forgetful, _ := now.watch(ctx, t, &walletv1.WatchChangesRequest{})
		kinds(t, forgetful, 0)
		if cursor == "" {
			_, cursor = kinds(t, stream, 0)
		}
		read := func(stream walletv1.HoldingsService_WatchChangesClient, into *seen, ended chan<- error,
			cursor *string) {
			for {
				m, err := stream.Recv()
				if err != nil {
					ended <- err
					return
				}
				into.add(m.GetChanges())
				*cursor = m.GetCursor()
			}
		}
		ended, gone, ignored := make(chan error, 1), make(chan error, 1), ""
		go read(stream, found, ended, &cursor)
		go read(forgetful, control, gone, &ignored)
		make1(now)
		next, stopNext := stoppable(t, db, issuer, redis)
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		for range 5 {
			make1(next)
		}
		servicetest.WantError(t, <-ended, errs.KindUnavailable, "SHUTTING_DOWN")
		<-gone
		make1(next) // of which no stream tells
		<-stopped
		now, stop = next, stopNext
	}
	stream, _ := now.watch(ctx, t, &walletv1.WatchChangesRequest{Cursor: cursor})
	for found.len() < total {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		found.add(m.GetChanges())
	}
	found.want(t, total)
	if control.len() >= total {
		t.Error("a reader without a cursor has all changes too, so nothing was proven")
	}
}

// Readers that take nothing, with the least that gRPC holds for them, of more changes than that. They cost the service
// no memory, are told, and go on without loss. The control is a reader that takes its messages.
func TestReadersThatAreTooSlowAreToldAndLoseNothing(t *testing.T) {
	const slow = 16
	changes := testkit.Size(20_000, 60_000)
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	addr, _ := stoppableAt(t, s.db, s.issuer, servicetest.NoRedis, "PURSER_CHANGES_READER_TIMEOUT=5s")
	// A client's window grows with what it reads, unless it is set.
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil,
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.holdings = walletv1.NewHoldingsServiceClient(conn)
	ctx, eager := s.may(t, "wallet:read", "wallet:any"), s.may(t, "wallet:read", "wallet:any")
	open := func(ctx context.Context, cursor string) walletv1.HoldingsService_WatchChangesClient {
		t.Helper()
		ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
		t.Cleanup(stop)
		stream, err := s.holdings.WatchChanges(ctx, &walletv1.WatchChangesRequest{Shard: &walletv1.Shard{Count: 1},
			Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	var readers []walletv1.HoldingsService_WatchChangesClient
	for range slow {
		stream := open(ctx, "")
		kinds(t, stream, 0)
		readers = append(readers, stream)
	}
	quick := open(eager, "")
	kinds(t, quick, 0)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are emptied by the second one
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for range changes / 2000 { // each within the time of a statement on a busy machine
		s.exec(t, `INSERT INTO changes (owner_id, kind, subject_id)
			SELECT gen_random_uuid(), 'BALANCES_CHANGED', gen_random_uuid() FROM generate_series(1, 2000)`)
	}
	begun := time.Now()
	for got := 0; got < changes; {
		m, err := quick.Recv()
		if err != nil {
			t.Fatalf("the reader that takes its messages has %d: %v", got, err)
		}
		got += len(m.GetChanges())
	}
	testkit.Figure(t, "%d changes at a reader beside %d that take nothing: %s", changes, slow, time.Since(begun))
	grown := heap() - before
	testkit.Figure(t, "memory for %d readers that are %d changes behind, client included: %d KiB", slow, changes,
		grown>>10)
	if grown > 16<<20 { // to hold the changes for each would take above 30 MiB, and two larger messages 32 MiB
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	// Wait until their time is over: their first message after it is the one that tells.
	testkit.Eventually(t, time.Minute, func() bool { return time.Since(begun) > 8*time.Second })
	for i, stream := range readers[:2] {
		ids := map[string]bool{}
		cursor, told := "", false
		for len(ids) < changes {
			m, err := stream.Recv()
			if err != nil {
				servicetest.WantError(t, err, errs.KindDeadline, "READER_TOO_SLOW")
				if told {
					t.Fatal("a reader that takes its messages was told so too")
				}
				told = true
				stream = open(ctx, cursor)
				continue
			}
			for _, c := range m.GetChanges() {
				if ids[c.GetWalletId()] {
					t.Fatalf("reader %d has a change twice", i)
				}
				ids[c.GetWalletId()] = true
			}
			cursor = m.GetCursor()
		}
		if !told {
			t.Errorf("reader %d was not told that it is too slow", i)
		}
	}
}
