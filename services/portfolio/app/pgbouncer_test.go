package app_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// shardedWallet is a liveWallet with a past, that tells of some owners by shards. In the past everybody held 2.
type shardedWallet struct {
	*liveWallet
	owners []string
}

func (w shardedWallet) StreamHoldings(r *walletv1.StreamHoldingsRequest,
	stream grpc.ServerStreamingServer[walletv1.StreamHoldingsResponse]) error {
	for _, owner := range w.owners {
		if id := uuid.MustParse(owner); int32(id[15])%r.GetShard().GetCount() != r.GetShard().GetNumber() {
			continue
		}
		held, err := w.GetHoldings(stream.Context(), &walletv1.GetHoldingsRequest{OwnerId: owner})
		if err != nil {
			return err
		}
		err = stream.Send(&walletv1.StreamHoldingsResponse{Tokens: held.GetTokens(), Prices: held.GetPrices(),
			Owners: []*walletv1.OwnerHoldings{{OwnerId: owner, Wallets: held.GetWallets()}}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w shardedWallet) ListHistoricalHoldings(_ context.Context,
	r *walletv1.ListHistoricalHoldingsRequest) (*walletv1.ListHistoricalHoldingsResponse, error) {
	owner := r.GetOwnerId()
	resp := &walletv1.ListHistoricalHoldingsResponse{OwnerId: owner,
		Tokens: []*walletv1.Token{{Id: liveToken, Symbol: "T", Verified: true}}}
	for h := r.GetStartTime().AsTime(); h.Before(r.GetEndTime().AsTime()); h = h.Add(time.Hour) {
		at := timestamppb.New(h)
		resp.Hours = append(resp.Hours, &walletv1.HistoricalHoldings{HourTime: at,
			Wallets: []*walletv1.WalletHoldings{{WalletId: owner, Account: "eip155:1:0x" + owner,
				Sync:     &walletv1.Sync{SyncTime: at},
				Holdings: []*walletv1.Holding{{TokenId: liveToken, Amount: "2"}}}},
			Prices: []*walletv1.Price{{TokenId: liveToken, Price: "10", Currency: "USD", Source: "test",
				PriceTime: at}}})
	}
	return resp, nil
}

// runJob runs a job of the service once, in all of its shards.
func (s service) runJob(t *testing.T, name string, shards int) {
	t.Helper()
	tick := time.Now().UTC().Truncate(time.Microsecond)
	_, err := s.db.SQL().ExecContext(t.Context(), `
		INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
		SELECT $1, $2, shard, $3::integer, now(), true FROM generate_series(0, $3::integer - 1) AS shard`,
		name, tick, shards)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		var done int
		var failed string
		err := s.db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FILTER (WHERE state = 'done'), max(error)
			FROM job_runs WHERE job = $1 AND scheduled_at = $2`, name, tick).Scan(&done, &failed)
		if err != nil || failed != "" {
			t.Fatal(failed, err)
		}
		return done == shards
	})
}

// Two replicas behind a PgBouncer that has three connections of the server for all of theirs: portfolios are made,
// their past is stored and read, the jobs run, and streams tell of changes.
func TestPortfoliosBehindPgBouncerInTransactionMode(t *testing.T) {
	t.Parallel()
	const users, hours = 8, 1000 // so that past months are reached
	db, issuer := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	through := *db
	through.URL = testkit.PgBouncer(t, db.URL, "transaction", true, "default_pool_size = 3")
	s := service{db: &through, issuer: issuer}
	w := shardedWallet{liveWallet: newLiveWallet()}
	var callers []context.Context
	for range users {
		ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
		callers, w.owners = append(callers, ctx), append(w.owners, servicetest.UserID(ctx, t))
	}
	addr, settings := serveLive(t, issuer, w)
	s.walletAddr = addr
	settings = append(settings, "PURSER_DATABASE_PGBOUNCER=true", "PURSER_HISTORY_MONTHS_AHEAD=9")
	replicas := []service{s.replica(t, servicetest.NoRedis, io.Discard, settings...),
		s.replica(t, servicetest.NoRedis, io.Discard, settings...)}
	from, until := pastHours(hours)

	var streams []*watched
	var all sync.WaitGroup
	for i, ctx := range callers {
		here, there := replicas[i%2], replicas[(i+1)%2]
		streams = append(streams, there.watch(ctx, t, &portfoliov1.WatchValuationRequest{}))
		all.Go(func() {
			p, err := here.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Vault",
				WalletIds: w.owners[i : i+1], EffectiveTime: timestamppb.New(from)})
			if err != nil {
				t.Error(err)
				return
			}
			if stored, _, err := here.backfill(ctx, from, until); err != nil || stored != hours {
				t.Errorf("%d hours are stored, %v", stored, err)
			}
			stored := here.recompute(ctx, t, p.GetPortfolio().GetId(), from, until, false)
			if stored != hours {
				t.Errorf("%d hours of the named portfolio are stored", stored)
			}
			for _, id := range []string{"", p.GetPortfolio().GetId()} {
				got, err := there.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{PortfolioId: id,
					Interval: portfoliov1.Interval_INTERVAL_DAILY, StartTime: timestamppb.New(from),
					EndTime: timestamppb.New(until)})
				points := got.GetPoints()
				if err != nil || len(points) < hours/24 || points[len(points)-1].GetClose() != "20.00000000" {
					t.Errorf("the timeline has %d points, %v", len(points), err)
				}
			}
		})
	}
	all.Wait()
	for _, stream := range streams {
		stream.want(t, "10.00000000")
	}
	w.hold("3", w.owners...)
	for _, stream := range streams {
		stream.want(t, "30.00000000")
	}

	count := func(query string, args ...any) (n int) {
		t.Helper()
		if err := db.SQL().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.runJob(t, "take_snapshots", 4)
	if n := count("SELECT count(*) FROM snapshots WHERE NOT backfilled AND total = 30 AND complete"); n != 2*users {
		t.Errorf("%d snapshots of %d portfolios are taken", n, 2*users)
	}
	if n := count("SELECT count(*) FROM hour_prices_default"); n != 0 {
		t.Errorf("%d prices of past months have no partition", n)
	}
	now := time.Now().UTC()
	far := "hour_prices_" + time.Date(now.Year(), now.Month()+8, 1, 0, 0, 0, 0, time.UTC).Format("200601")
	missing := func() int { return count("SELECT (to_regclass($1) IS NULL)::integer", far) }
	if missing() == 0 {
		t.Fatalf("%s is there before the job", far)
	}
	s.runJob(t, "make_partitions", 1)
	if missing() == 1 {
		t.Errorf("%s is missing after the job", far)
	}
	if out, err := s.command(t.Context(), t, []string{"partitions"}, settings...); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	// The control: they shared the connections.
	if n := count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
		AND application_name LIKE 'purser-%' AND pid <> pg_backend_pid()`); n == 0 || n > 3 {
		t.Errorf("they used %d connections of the server: nothing was shared", n)
	}
	testkit.Figure(t, "%d portfolios of %d hours on 3 connections of the server", 2*users, hours)
}
