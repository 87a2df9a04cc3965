package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	"github.com/purserhq/purser/services/auth/app"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestMain(m *testing.M) {
	// They mostly wait; those that compute run one by one, because the service gives up after fractions of a second.
	testkit.Parallel(3)
	testkit.Main(m)
}

const (
	issuer   = "http://auth.test"
	password = "correct horse battery"
)

// kek is 32 bytes in base64.
func kek() string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)) }

func environ(databaseURL string) []string {
	return []string{
		"PURSER_DATABASE_URL=" + databaseURL, "PURSER_ISSUER=" + issuer, "PURSER_KEK=" + kek(),
		"PURSER_REDIS_URL=redis://127.0.0.1:1/0", // where nothing listens
		"PURSER_GRPC_PLAINTEXT=true", "PURSER_PASSWORD_HASHES_AT_ONCE=2", "PURSER_GRPC_BURST=10000",
		"PURSER_AUTH_FLOOR=0s",          // which has its own tests
		"PURSER_PASSWORD_PROCESS=false", // as has this: starting one takes time
	}
}

type service struct {
	db       *testkit.DB
	addr     string
	http     string
	accounts authv1.AccountServiceClient
	sessions authv1.SessionServiceClient
	tokens   authv1.TokenServiceClient
	admin    authv1.AdminServiceClient
	jobs     jobsv1.JobServiceClient
	keys     authv1.ApiKeyServiceClient

	identities authv1.IdentityServiceClient
}

// start runs the service, with more settings, until the test ends.
func start(t testing.TB, more ...string) service {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	return startOn(t, db, db.URL, more...)
}

// startOn runs the service on a database that it reaches by url.
func startOn(t testing.TB, db *testkit.DB, url string, more ...string) service {
	t.Helper()
	cfg, err := app.Load(append(environ(url), more...))
	if err != nil {
		t.Fatal(err)
	}
	// A test of hashing, or of how long calls take, states a setting of either. A benchmark is one.
	_, benchmark := t.(*testing.B)
	cfg.CheapHashes = !benchmark && !slices.ContainsFunc(more, func(setting string) bool {
		return strings.HasPrefix(setting, "PURSER_PASSWORD_") || strings.HasPrefix(setting, "PURSER_AUTH_FLOOR=")
	})
	a, err := app.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	conn := dial(t, a.Addr())
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return service{
		db: db, addr: a.Addr(), http: "http://" + a.HTTPAddr(), accounts: authv1.NewAccountServiceClient(conn),
		sessions: authv1.NewSessionServiceClient(conn), tokens: authv1.NewTokenServiceClient(conn),
		admin: authv1.NewAdminServiceClient(conn), jobs: jobsv1.NewJobServiceClient(conn),
		keys:       authv1.NewApiKeyServiceClient(conn),
		identities: authv1.NewIdentityServiceClient(conn),
	}
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (s service) register(t testing.TB, email string) {
	t.Helper()
	if _, err := s.accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: email, Password: password, DisplayName: "Ada"}); err != nil {
		t.Fatal(err)
	}
}

func (s service) login(t testing.TB, email string) *authv1.Tokens {
	t.Helper()
	resp, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetTokens()
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

func TestAUserRegistersSignsInRefreshesAndSignsOut(t *testing.T) {
	s := start(t)
	s.register(t, "Ada@Example.com")
	tokens := s.login(t, "ada@example.com")
	me, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()), &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if u := me.GetUser(); u.GetEmail() != "ada@example.com" || u.GetDisplayName() != "Ada" || len(u.GetRoles()) != 1 {
		t.Errorf("GetMe says %v", u)
	}
	refreshed, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil || again.GetTokens().GetRefreshToken() != refreshed.GetTokens().GetRefreshToken() {
		t.Errorf("the duplicate got another token, or %v", err)
	}
	signedIn := grpcclient.WithToken(t.Context(), refreshed.GetTokens().GetAccessToken())
	if _, err := s.sessions.Logout(signedIn, &authv1.LogoutRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = s.sessions.Refresh(t.Context(),
		&authv1.RefreshRequest{RefreshToken: refreshed.GetTokens().GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
}

func TestARegisteredAddressCanNotBeTakenOver(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	first, err := s.accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: "ADA@example.com", Password: "the password of mallory"})
	if err != nil || first == nil {
		t.Fatalf("a known address is told apart: %v", err)
	}
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com",
		Password: "the password of mallory"})
	wrong := want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "nobody@example.com", Password: password})
	unknown := want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	if wrong.Error() != unknown.Error() || wrong.RetryAfter != unknown.RetryAfter {
		t.Errorf("told apart: %v and %v", wrong, unknown)
	}
	s.login(t, "ada@example.com")
}

func TestBadInputNamesItsField(t *testing.T) {
	s := start(t)
	for _, tc := range []struct {
		name, field string
		call        func(context.Context) error
	}{
		{"an address without a host", "email", func(ctx context.Context) error {
			_, err := s.accounts.Register(ctx, &authv1.RegisterRequest{Email: "ada@", Password: password})
			return err
		}},
		{"a password of 14 characters", "password", func(ctx context.Context) error {
			_, err := s.accounts.Register(ctx,
				&authv1.RegisterRequest{Email: "a@example.com", Password: password[:14]})
			return err
		}},
		{"a password of 129 characters", "password", func(ctx context.Context) error {
			_, err := s.accounts.Register(ctx,
				&authv1.RegisterRequest{Email: "a@example.com", Password: strings.Repeat("x", 129)})
			return err
		}},
		{"a name of 81 characters", "display_name", func(ctx context.Context) error {
			_, err := s.accounts.Register(ctx,
				&authv1.RegisterRequest{Email: "a@example.com", Password: password,
					DisplayName: strings.Repeat("x", 81)})
			return err
		}},
		{"a name with a NUL byte", "display_name", func(ctx context.Context) error {
			_, err := s.accounts.Register(ctx,
				&authv1.RegisterRequest{Email: "a@example.com", Password: password, DisplayName: "\x00"})
			return err
		}},
		{"a login without a password", "password", func(ctx context.Context) error {
			_, err := s.sessions.Login(ctx, &authv1.LoginRequest{Email: "a@example.com"})
			return err
		}},
		{"no refresh token", "refresh_token", func(ctx context.Context) error {
			_, err := s.sessions.Refresh(ctx, &authv1.RefreshRequest{})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := want(t, tc.call(t.Context()), errs.KindInvalid, "INVALID_ARGUMENT")
			if len(e.Violations) != 1 || e.Violations[0].Field != tc.field || e.Violations[0].Rule == "" {
				t.Errorf("violations %v, want %q", e.Violations, tc.field)
			}
		})
	}
	_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "a\x00@example.com", Password: password})
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: "\x00 no token of ours"})
	want(t, err, errs.KindUnauthenticated, "REFRESH_TOKEN_INVALID")
}

func TestLoadReportsAllErrorsAtOnce(t *testing.T) {
	_, err := app.Load([]string{
		"PURSER_ISSUER=auth.example", "PURSER_KEK=c2hvcnQ=", "PURSER_MIN_PASSWORD=4",
		"PURSER_PASSWORD_HASHES_AT_ONCE=-1", "PURSER_KEYS_SIGNER_LEASE=1s", "PURSER_ACCESS_TTL=0s",
		"PURSER_REFRESH_RECOVERY=1h", "PURSER_SECOND_FACTOR_REMOVAL_DELAY=721h",
		"PURSER_GRPC_BURST=0", "PURSER_CACHE_USER_TTL=0s",
		"PURSER_AUTH_FLOOR=1m", "PURSER_BREACHED_API_URL=pwned.example", "PURSER_SMTP_ADDR=mail.example",
		"PURSER_SMTP_USER=auth",
		"PURSER_SMTP_FROM=nobody", "PURSER_SMTP_TLS=perhaps", "PURSER_SMTP_ATTEMPTS=0", "PURSER_MAIL_PER_HOUR=0",
		"PURSER_NOTICE_MAILS_OFF=new_device,verify_email",
		"PURSER_MAIL_LINKS_URL=app.example", "PURSER_HTTP_BASE_URL=https://auth.example/?tenant=a",
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, name := range []string{
		"PURSER_DATABASE_URL", "PURSER_REDIS_URL", "PURSER_CACHE_USER_TTL", "PURSER_ISSUER", "PURSER_KEK",
		"PURSER_MIN_PASSWORD", "PURSER_PASSWORD_HASHES_AT_ONCE",
		"PURSER_KEYS_SIGNER_LEASE", "PURSER_ACCESS_TTL", "PURSER_REFRESH_RECOVERY",
		"PURSER_SECOND_FACTOR_REMOVAL_DELAY", "PURSER_GRPC_TLS_CERT",
		"PURSER_GRPC_BURST",
		"PURSER_AUTH_FLOOR", "PURSER_BREACHED_API_URL", "PURSER_SMTP_ADDR", "PURSER_SMTP_PASSWORD", "PURSER_SMTP_FROM",
		"PURSER_SMTP_TLS",
		"PURSER_SMTP_ATTEMPTS", "PURSER_MAIL_PER_HOUR", "PURSER_MAIL_LINKS_URL",
		`identity_unlinked, api_key_created, new_device; got "verify_email"`, "PURSER_HTTP_BASE_URL",
	} {
		if n := strings.Count(err.Error(), name); n == 0 {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "c2hvcnQ=") {
		t.Error("the key-encryption key is shown")
	}
}

func TestPrintedConfigurationShowsNoSecret(t *testing.T) {
	cfg, err := app.Load(append(environ("postgres://auth:hunter2@db.example/auth"),
		"PURSER_REDIS_URL=redis://:hunter2@redis"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := config.Print(&out, cfg); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", kek()} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q stands in:\n%s", secret, out.String())
		}
	}
	for _, line := range []string{"PURSER_ISSUER=" + issuer, "PURSER_KEK=***",
		"PURSER_DATABASE_URL=postgres://auth:***@db.example/auth", "PURSER_ACCESS_TTL=15m0s"} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%q is missing in:\n%s", line, out.String())
		}
	}
}
