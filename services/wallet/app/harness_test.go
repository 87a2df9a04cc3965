package app_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const account = "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

type service struct {
	db       *testkit.DB
	issuer   *servicetest.Issuer
	settings []string // besides those that every test has
	wallets  walletv1.WalletServiceClient
	balances walletv1.BalanceServiceClient
	tokens   walletv1.TokenServiceClient
	prices   walletv1.PriceServiceClient
	holdings walletv1.HoldingsServiceClient
	jobs     jobsv1.JobServiceClient
	moves    walletv1.TransactionServiceClient

	positions walletv1.PositionServiceClient
}

const tokenList = `{"tokens":[
 {"chainId":1,"address":"0x0000000000000000000000000000000000000000","symbol":"ETH","name":"Ether","decimals":18},
 {"chainId":1,"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","symbol":"AAA","name":"A","decimals":6},
 {"chainId":137,"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","symbol":"BBB","name":"B","decimals":6}]}`

// never is a cron schedule whose next time no test reaches.
const never = "0 0 29 2 *"

// start runs the service, without Redis, nodes or prices, until the test ends.
// more are further settings.
func start(t *testing.T, more ...string) service {
	t.Helper()
	return replica(t, testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t), servicetest.NoRedis, tokenList,
		io.Discard, more...)
}

// replica runs one of several instances of the service.
func replica(t *testing.T, db *testkit.DB, i *servicetest.Issuer, redisURL, tokenList string, logs io.Writer,
	more ...string) service {
	t.Helper()
	s := service{db: db, issuer: i, settings: more}
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, []byte(tokenList), 0o600); err != nil {
		t.Fatal(err)
	}
	conn := servicetest.Start(t, app.Load, app.New, logs, append([]string{
		"PURSER_DATABASE_URL=" + db.URL, "PURSER_REDIS_URL=" + redisURL, "PURSER_ISSUER=" + i.URL,
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_TOKEN_LIST=" + list, "PURSER_GRPC_PLAINTEXT=true",
		"PURSER_GRPC_BURST=10000",
		"PURSER_SIWE_DOMAIN=app.example", "PURSER_SYNC_CRON=" + never, "PURSER_CHAIN_RPC_URLS=137=http://127.0.0.1:1",
		"PURSER_CACHE_WALLETS_TTL=1h", "PURSER_CACHE_TOKEN_TTL=1h"}, more...)...)
	s.wallets, s.balances = walletv1.NewWalletServiceClient(conn), walletv1.NewBalanceServiceClient(conn)
	s.tokens, s.prices = walletv1.NewTokenServiceClient(conn), walletv1.NewPriceServiceClient(conn)
	s.holdings, s.jobs = walletv1.NewHoldingsServiceClient(conn), jobsv1.NewJobServiceClient(conn)
	s.moves, s.positions = walletv1.NewTransactionServiceClient(conn), walletv1.NewPositionServiceClient(conn)
	return s
}

// user is the context of a new user who may do everything with wallets.
func (s service) user(t *testing.T) context.Context {
	t.Helper()
	return s.may(t, "wallet:read", "wallet:write", "wallet:delete")
}

// may is the context of a new user with these permissions.
func (s service) may(t *testing.T, permissions ...string) context.Context {
	t.Helper()
	return s.issuer.As(t, uuid.New(), servicetest.Permissions(permissions...))
}

func (s service) create(ctx context.Context, t *testing.T, account string) *walletv1.Wallet {
	t.Helper()
	resp, err := s.wallets.CreateWallet(ctx,
		&walletv1.CreateWalletRequest{Account: account, Label: "cold", AllowUnconfiguredChain: true})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetWallet()
}

func (s service) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.SQL().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}
