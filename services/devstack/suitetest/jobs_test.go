package suitetest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// Portfolio's job signs in with its service account and reads the holdings of all users from wallet.
func TestTheSnapshotJobTakesASnapshotOfEveryPortfolio(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"portfolio": {"PURSER_SNAPSHOT_CRON=@every 1s"}}
	})
	c := dial(t, s.Endpoints)
	alice, _ := signIn(t, c)
	bob, _ := signIn(t, c)
	addWallet(t, alice, c, account(s, s.Chain.Holders()[0]))
	addWallet(t, bob, c, account(s, s.Chain.Holders()[1]))
	nobody, _ := signIn(t, c) // has no wallets
	totals := map[string]bool{}
	for _, ctx := range []context.Context{nobody, alice, bob} {
		if _, err := c.Portfolios.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, ctx := range []context.Context{alice, bob} {
		testkit.Eventually(t, time.Minute, func() bool {
			resp, err := c.Portfolios.GetTimeline(ctx,
				&portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range resp.GetPoints() {
				totals[p.GetClose()] = true
			}
			return len(resp.GetPoints()) > 0
		})
	}
	if len(totals) != 2 {
		t.Errorf("the two have the values %v", totals)
	}
	resp, err := c.Portfolios.GetTimeline(nobody,
		&portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY})
	if err != nil || len(resp.GetPoints()) != 0 {
		t.Errorf("a user without wallets has the history %v, %v", resp.GetPoints(), err)
	}
}

// Wallet's job syncs the wallets of all users. An operator can trigger it and list its runs.
func TestTheSyncJobSyncsEveryWallet(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	wallets := map[context.Context]*walletv1.Wallet{}
	for _, h := range s.Chain.Holders() {
		ctx, _ := signIn(t, c)
		made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account(s, h)})
		if err != nil {
			t.Fatal(err)
		}
		wallets[ctx] = made.GetWallet()
	}
	stranger, _ := signIn(t, c)
	lost, err := c.Wallets.CreateWallet(stranger,
		&walletv1.CreateWalletRequest{Account: "eip155:999:" + s.Chain.Holders()[0].Hex(),
			AllowUnconfiguredChain: true})
	if err != nil {
		t.Fatal(err)
	}
	jobs := walletJobs(t, s)
	user, _ := signIn(t, c)
	_, err = jobs.TriggerJob(user, &jobsv1.TriggerJobRequest{Job: "sync_wallets"})
	wantError(t, err, codes.PermissionDenied, "PERMISSION_MISSING")
	admin := signInAdmin(t, s, c)
	_, err = jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "no_such_job"})
	wantError(t, err, codes.NotFound, "NOT_FOUND")
	if _, err := jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "sync_wallets"}); err != nil {
		t.Fatal(err)
	}
	for ctx, w := range wallets {
		testkit.Eventually(t, time.Minute, func() bool {
			got, err := c.Wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetId()})
			if err != nil {
				t.Fatal(err)
			}
			return got.GetWallet().GetSync().GetState() == walletv1.SyncState_SYNC_STATE_SYNCED
		})
		balances, err := c.Balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w.GetId()})
		if err != nil || len(balances.GetBalances()) == 0 {
			t.Fatal(balances, err)
		}
	}
	testkit.Eventually(t, time.Minute, func() bool {
		got, err := c.Wallets.GetWallet(stranger, &walletv1.GetWalletRequest{WalletId: lost.GetWallet().GetId()})
		return err == nil && got.GetWallet().GetSync().GetState() == walletv1.SyncState_SYNC_STATE_FAILED &&
			got.GetWallet().GetSync().GetRetryTime() != nil
	})
	testkit.Eventually(t, time.Minute, func() bool {
		runs, err := jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "sync_wallets"})
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, r := range runs.GetRuns() {
			if r.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DONE && r.GetManual() && r.GetDuration() != nil {
				done++
			}
		}
		return done == 4
	})
}

// The other services ask auth what a caller may do now, rather than wait until they hear of a revocation.
func TestNobodyTriggersAJobOfAnotherServiceAfterTheirRoleWasTaken(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	root, bob, jobs := signInAdmin(t, s, c), signInAdmin(t, s, c), walletJobs(t, s)
	me, err := c.Accounts.GetMe(bob, &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	trigger := &jobsv1.TriggerJobRequest{Job: "prune_job_runs"}
	if _, err := jobs.TriggerJob(bob, trigger); err != nil {
		t.Fatal(err)
	}
	goesOn := false
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: s.Endpoints.Auth, Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = authv1.NewAdminServiceClient(conn).SetRoles(root,
		&authv1.SetRolesRequest{UserId: me.GetUser().GetId(), EndSessions: &goesOn})
	if err != nil {
		t.Fatal(err)
	}
	_, err = jobs.TriggerJob(bob, trigger)
	if e := errs.As(err); e == nil || e.Reason != "PERMISSION_MISSING" {
		t.Errorf("answered %v", err)
	}
}

// walletJobs is a client of the job service of wallet.
func walletJobs(t *testing.T, s *suite.Suite) jobsv1.JobServiceClient {
	t.Helper()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: s.Endpoints.Wallet, Plaintext: true,
		Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return jobsv1.NewJobServiceClient(conn)
}

// signInAdmin registers an admin and returns a context with their access token.
func signInAdmin(t *testing.T, s *suite.Suite, c *demo.Clients) context.Context {
	t.Helper()
	email, password := strings.ToLower(rand.Text())+"@example.com", rand.Text()
	if _, err := c.Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AuthCommand(t.Context(), "admin", "grant", email, "--unverified"); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), resp.GetTokens().GetAccessToken())
}
