package app_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/app"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// wallet stands in for the wallet service.
type wallet struct {
	walletv1.UnimplementedHoldingsServiceServer
	mu     sync.Mutex
	away   bool
	price  string   // of the one token, 1824.53 unless set; "none" for none
	tokens []string // the authorization headers that came
	past   past
}

func (w *wallet) setPrice(price string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.price = price
}

func (w *wallet) setAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
}

func (w *wallet) GetHoldings(ctx context.Context, _ *walletv1.GetHoldingsRequest) (*walletv1.GetHoldingsResponse,
	error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	w.tokens = append(w.tokens, md.Get("authorization")...)
	if w.away {
		return nil, status.Error(codes.Unavailable, "away")
	}
	price := &walletv1.Price{TokenId: "t", Price: cmp.Or(w.price, "1824.53"), Source: "test",
		PriceTime: timestamppb.Now()}
	if w.price == "none" {
		price = &walletv1.Price{TokenId: "t", UnpricedReason: "NO_PRICE"}
	}
	return &walletv1.GetHoldingsResponse{Wallets: []*walletv1.WalletHoldings{{
		WalletId: "w", Account: "eip155:1:0x1", Sync: &walletv1.Sync{SyncTime: timestamppb.Now()},
		Holdings: []*walletv1.Holding{{
			Balance: &walletv1.Balance{Token: &walletv1.Token{Id: "t", Symbol: "ETH", Decimals: 18, Verified: true},
				Amount: "1500000000000000000"},
			Price: price,
		}},
	}}}, nil
}

func (w *wallet) serve(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	walletv1.RegisterHoldingsServiceServer(s, w)
	go func() { _ = s.Serve(lis) }() // ends with Stop
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

type service struct {
	portfoliov1.PortfolioServiceClient
	jobs       jobsv1.JobServiceClient
	db         *testkit.DB
	wallet     *wallet
	walletAddr string
	issuer     string
	key        ed25519.PrivateKey
}

// start runs the service on a wallet service of the test's own, without Redis.
func start(t *testing.T) service {
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
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) }))
	t.Cleanup(keys.Close)
	s := service{db: testkit.Postgres(t, migrations.FS), wallet: &wallet{}, issuer: keys.URL, key: private}
	s.walletAddr = s.wallet.serve(t)
	return s.replica(t, "redis://127.0.0.1:1/0", io.Discard)
}

// replica runs another instance beside s, with this Redis and more settings.
func (s service) replica(t *testing.T, redisURL string, logs io.Writer, more ...string) service {
	t.Helper()
	cfg, err := app.Load(append([]string{
		"PURSER_DATABASE_URL=" + s.db.URL, "PURSER_REDIS_URL=" + redisURL, "PURSER_ISSUER=" + s.issuer,
		"PURSER_WALLET_ADDR=" + s.walletAddr, "PURSER_WALLET_PLAINTEXT=true", "PURSER_GRPC_PLAINTEXT=true",
	}, more...))
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
	s.PortfolioServiceClient, s.jobs = portfoliov1.NewPortfolioServiceClient(conn),
		jobsv1.NewJobServiceClient(conn)
	return s
}

// user is the context of a new user with these permissions, and their token.
func (s service) user(t *testing.T, permissions ...string) (context.Context, string) {
	t.Helper()
	return s.as(t, uuid.New(), permissions...)
}

func (s service) as(t *testing.T, user uuid.UUID, permissions ...string) (context.Context, string) {
	t.Helper()
	text := s.sign(t, user, func(c *authn.Claims) { c.Permissions = permissions })
	return grpcclient.WithToken(t.Context(), text), text
}

// sign makes a token of user's, good for an hour, but for what change makes of
// it.
func (s service) sign(t *testing.T, user uuid.UUID, change func(*authn.Claims)) string {
	t.Helper()
	now := time.Now()
	claims := authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.issuer, Audience: jwt.ClaimStrings{authn.Audience}, Subject: user.String(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
		},
		SessionID: uuid.NewString(),
	}
	change(&claims)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["typ"], token.Header["kid"] = authn.TokenType, "test"
	text, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// calls are all methods, of the portfolio with this id.
func (s service) calls(id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"GetPortfolio": func(ctx context.Context) error {
			_, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: id})
			return err
		},
		"GetValuation": func(ctx context.Context) error {
			_, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{PortfolioId: id})
			return err
		},
		"TakeSnapshot": func(ctx context.Context) error {
			_, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{PortfolioId: id})
			return err
		},
		"ListSnapshots": func(ctx context.Context) error {
			_, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PortfolioId: id})
			return err
		},
		"GetTimeline": func(ctx context.Context) error {
			_, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{PortfolioId: id})
			return err
		},
	}
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

func TestAPortfolioOfSomebodyElseIsNotFound(t *testing.T) {
	s := start(t)
	mine, _ := s.user(t, "portfolio:read", "portfolio:write")
	mallory, _ := s.user(t, "portfolio:read", "portfolio:write")
	p, err := s.GetPortfolio(mine, &portfoliov1.GetPortfolioRequest{})
	if err != nil || !p.GetPortfolio().GetDefault() {
		t.Fatal(p, err)
	}
	id := p.GetPortfolio().GetId()
	for name, call := range s.calls(id) {
		t.Run(name, func(t *testing.T) {
			theirs := want(t, call(mallory), errs.KindNotFound, "NOT_FOUND")
			for _, nobodys := range []string{uuid.NewString(), uuid.Nil.String()} {
				if e := want(t, s.calls(nobodys)[name](mallory), errs.KindNotFound,
					"NOT_FOUND"); e.Error() != theirs.Error() {
					t.Errorf("told apart: %v and %v", theirs, e)
				}
			}
			want(t, s.calls("mine")[name](mallory), errs.KindInvalid, "INVALID_ARGUMENT")
			if err := call(mine); err != nil {
				t.Errorf("the owner: %v", err)
			}
		})
	}
}

func TestEveryMethodAsksForItsPermission(t *testing.T) {
	s := start(t)
	for name, call := range s.calls("") {
		t.Run(name, func(t *testing.T) {
			needs := "portfolio:read"
			if name == "TakeSnapshot" {
				needs = "portfolio:write"
			}
			want(t, call(t.Context()), errs.KindUnauthenticated, "TOKEN_MISSING")
			for _, p := range []string{"", "portfolio:read", "portfolio:write", "wallet:read", "portfolio:any"} {
				ctx, _ := s.user(t, p)
				if err := call(ctx); p == needs && err != nil ||
					p != needs && !errs.Is(err, errs.KindPermissionDenied) {
					t.Errorf("with %q: %v", p, err)
				}
			}
		})
	}
}

func TestAValueIsReadInTheCallersNameAndStandsInWhileTheWalletServiceIsAway(t *testing.T) {
	s := start(t)
	ctx, token := s.user(t, "portfolio:read", "portfolio:write")
	s.wallet.setAway(true)
	_, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	want(t, err, errs.KindUnavailable, "WALLET_UNAVAILABLE")
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	want(t, err, errs.KindUnavailable, "WALLET_UNAVAILABLE")
	if list, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{}); err != nil ||
		len(list.GetSnapshots()) != 0 {
		t.Fatalf("stored while the wallet service was away: %v, %v", list, err)
	}
	s.wallet.setAway(false)
	fresh, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if v := fresh.GetValuation(); err != nil || v.GetTotal() != "2736.79500000" || v.GetStale() || !v.GetComplete() ||
		v.GetPositions()[0].GetShare() != 1 {
		t.Fatalf("valued %v, %v", fresh, err)
	}
	for i, stored := range []bool{true, false} {
		if snap, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil ||
			snap.GetStored() != stored || snap.GetSnapshot().GetTotal() != "2736.79500000" {
			t.Fatalf("snapshot %d: %v, %v", i, snap, err)
		}
	}
	s.wallet.setAway(true)
	last, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if v := last.GetValuation(); err != nil || v.GetTotal() != "2736.79500000" || !v.GetStale() || v.GetComplete() ||
		len(v.GetPositions()) != 1 {
		t.Fatalf("the last snapshot: %v, %v", last, err)
	}
	points, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{})
	if p := points.GetPoints(); err != nil || len(p) == 0 || p[len(p)-1].GetClose() != "2736.79500000" {
		t.Errorf("timeline %v, %v", points, err)
	}
	s.wallet.mu.Lock()
	defer s.wallet.mu.Unlock()
	for _, got := range s.wallet.tokens {
		if got != "Bearer "+token {
			t.Error("the wallet service was called in another's name")
		}
	}
}

func TestBadInputNamesItsField(t *testing.T) {
	s := start(t)
	ctx, _ := s.user(t, "portfolio:read")
	timeline := func(r *portfoliov1.GetTimelineRequest) error { _, err := s.GetTimeline(ctx, r); return err }
	list := func(r *portfoliov1.ListSnapshotsRequest) error { _, err := s.ListSnapshots(ctx, r); return err }
	soon := timestamppb.New(time.Now().Add(time.Hour))
	for _, tc := range []struct {
		name, field string
		err         error
	}{
		{"an end in the future", "end_time", timeline(&portfoliov1.GetTimelineRequest{EndTime: soon})},
		{"a start in the future", "start_time", timeline(&portfoliov1.GetTimelineRequest{StartTime: soon})},
		{"six years", "start_time", timeline(
			&portfoliov1.GetTimelineRequest{StartTime: timestamppb.New(time.Now().AddDate(-6, 0, 0))})},
		{"a time that is none", "start_time",
			timeline(&portfoliov1.GetTimelineRequest{StartTime: &timestamppb.Timestamp{Seconds: 1 << 60}})},
		{"a zone that nobody has", "time_zone", timeline(&portfoliov1.GetTimelineRequest{TimeZone: "Mars/Olympus"})},
		{"too many points", "limit", timeline(&portfoliov1.GetTimelineRequest{Limit: 5001})},
		{"an interval that nobody knows", "interval", timeline(&portfoliov1.GetTimelineRequest{Interval: 77})},
		{"a page of 501", "page_size", list(&portfoliov1.ListSnapshotsRequest{PageSize: 501})},
		{"a page token that is none", "page_token", list(&portfoliov1.ListSnapshotsRequest{PageToken: "x"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := want(t, tc.err, errs.KindInvalid, "INVALID_ARGUMENT")
			if len(e.Violations) != 1 || e.Violations[0].Field != tc.field || e.Violations[0].Rule == "" {
				t.Errorf("violations %v, want one of %s", e.Violations, tc.field)
			}
		})
	}
}

func TestConfiguration(t *testing.T) {
	_, err := app.Load([]string{"PURSER_ISSUER=auth", "PURSER_JWKS_URL=keys", "PURSER_GRPC_BURST=0",
		"PURSER_CACHE_TIMELINE_TTL=0s", "PURSER_CACHE_VALUATION_TTL=1h"})
	if err == nil {
		t.Fatal("taken")
	}
	for _, name := range []string{"PURSER_DATABASE_URL", "PURSER_REDIS_URL", "PURSER_ISSUER", "PURSER_JWKS_URL",
		"PURSER_WALLET_ADDR", "PURSER_GRPC_BURST", "PURSER_GRPC_TLS_CERT", "PURSER_CACHE_TIMELINE_TTL",
		"PURSER_CACHE_VALUATION_TTL"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	cfg, err := app.Load([]string{
		"PURSER_DATABASE_URL=postgres://u:hunter2@db/x", "PURSER_REDIS_URL=redis://:hunter2@r",
		"PURSER_ISSUER=https://auth.example",
		"PURSER_WALLET_ADDR=wallet:443", "PURSER_GRPC_PLAINTEXT=true",
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := config.Print(&out, cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") ||
		!strings.Contains(out.String(), "PURSER_WALLET_ADDR=wallet:443\n") {
		t.Errorf("printed\n%s", out.String())
	}
}
