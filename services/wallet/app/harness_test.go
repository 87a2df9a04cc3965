package app_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const account = "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

// issuer stands in for the auth service: it signs tokens and serves its key.
type issuer struct {
	*httptest.Server
	key ed25519.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "test",
		Algorithm: "EdDSA", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: private}
	i.Server = httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) }))
	t.Cleanup(i.Close)
	return i
}

// token of a user with these permissions, good for an hour.
func (i *issuer) token(t *testing.T, user uuid.UUID, permissions ...string) string {
	t.Helper()
	return i.signedIn(t, user, nil, time.Time{}, permissions...)
}

// signedIn is a token of a user who signed in by these methods at some time.
func (i *issuer) signedIn(t *testing.T, user uuid.UUID, methods []string, at time.Time, permissions ...string) string {
	t.Helper()
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: i.URL, Audience: jwt.ClaimStrings{authn.Audience}, Subject: user.String(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
		},
		SessionID: uuid.NewString(), Permissions: permissions, AMR: methods, AuthTime: jwt.NewNumericDate(at),
	})
	token.Header["typ"], token.Header["kid"] = authn.TokenType, "test"
	text, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type service struct {
	db       *testkit.DB
	issuer   *issuer
	wallets  walletv1.WalletServiceClient
	balances walletv1.BalanceServiceClient
	tokens   walletv1.TokenServiceClient
	prices   walletv1.PriceServiceClient
	holdings walletv1.HoldingsServiceClient
	jobs     jobsv1.JobServiceClient
}

const tokenList = `{"tokens":[
 {"chainId":1,"address":"0x0000000000000000000000000000000000000000","symbol":"ETH","name":"Ether","decimals":18},
 {"chainId":1,"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","symbol":"AAA","name":"A","decimals":6},
 {"chainId":137,"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","symbol":"BBB","name":"B","decimals":6}]}`

// noRedis is an address where nothing listens.
const noRedis = "redis://127.0.0.1:1/0"

// never is a schedule that no test waits for.
const never = "0 0 29 2 *"

// start runs the service, without Redis, nodes or prices, until the test ends.
func start(t *testing.T) service {
	t.Helper()
	return replica(t, testkit.Postgres(t, migrations.FS), newIssuer(t), noRedis, tokenList, io.Discard)
}

// replica runs one of several instances of the service.
func replica(t *testing.T, db *testkit.DB, i *issuer, redisURL, tokenList string, logs io.Writer) service {
	t.Helper()
	s := service{db: db, issuer: i}
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, []byte(tokenList), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.Load([]string{
		"PURSER_DATABASE_URL=" + s.db.URL, "PURSER_REDIS_URL=" + redisURL, "PURSER_ISSUER=" + s.issuer.URL,
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_TOKEN_LIST=" + list, "PURSER_GRPC_PLAINTEXT=true",
		"PURSER_GRPC_BURST=10000",
		"PURSER_SYNC_CRON=" + never,
		"PURSER_CHAIN_RPC_URLS=137=http://127.0.0.1:1", "PURSER_CACHE_WALLETS_TTL=1h", "PURSER_CACHE_TOKEN_TTL=1h",
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: a.Addr(), Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s.wallets, s.balances = walletv1.NewWalletServiceClient(conn), walletv1.NewBalanceServiceClient(conn)
	s.tokens, s.prices = walletv1.NewTokenServiceClient(conn), walletv1.NewPriceServiceClient(conn)
	s.holdings, s.jobs = walletv1.NewHoldingsServiceClient(conn), jobsv1.NewJobServiceClient(conn)
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
	return grpcclient.WithToken(t.Context(), s.issuer.token(t, uuid.New(), permissions...))
}

func (s service) create(ctx context.Context, t *testing.T, account string) *walletv1.Wallet {
	t.Helper()
	resp, err := s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account, Label: "cold"})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetWallet()
}

// want fails the test unless err is of this kind and reason.
func want(t *testing.T, err error, kind errs.Kind, reason string) *errs.Error {
	t.Helper()
	e := errs.As(err)
	if e == nil || e.Kind != kind || e.Reason != reason {
		t.Fatalf("answered %v, want %s %s", err, kind, reason)
	}
	return e
}

// violates fails the test unless err names this field, and returns the rule.
func violates(t *testing.T, err error, field string) string {
	t.Helper()
	e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	if len(e.Violations) != 1 || e.Violations[0].Field != field || e.Violations[0].Rule == "" {
		t.Fatalf("violations %v, want one of %s", e.Violations, field)
	}
	return e.Violations[0].Rule
}
