package suitetest

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
)

// starting is a service's program that was started, whatever came of it.
type starting struct {
	cmd    *exec.Cmd
	logs   *testkit.LogBuffer
	health *grpc.ClientConn
	grpc   chan string // receives where it listens
	ended  chan error
}

// begin runs a service's program with these settings, and others that work, until the test ends.
func begin(t *testing.T, service string, settings map[string]string) *starting {
	t.Helper()
	health := unusedAddr(t)
	vars := map[string]string{
		"PURSER_GRPC_PLAINTEXT": "true", "PURSER_GRPC_HEALTH_ADDR": health, "PURSER_REDIS_URL": servicetest.NoRedis,
		"PURSER_SHUTDOWN_DRAIN": "5s",
	}
	switch service {
	case "auth":
		vars["PURSER_ISSUER"], vars["PURSER_PASSWORD_PROCESS"] = "https://auth.example", "false"
		vars["PURSER_KEK"] = kekOf("k")
	case "wallet":
		vars["PURSER_PRICE_URL"], vars["PURSER_CHAIN_RPC_URLS"] = "http://127.0.0.1:1", "1=http://127.0.0.1:1"
	case "portfolio":
		vars["PURSER_WALLET_ADDR"], vars["PURSER_WALLET_PLAINTEXT"] = "127.0.0.1:1", "true"
	}
	for name, value := range settings {
		vars[name] = value
	}
	s := &starting{cmd: exec.Command(filepath.Join(builtPrograms(t), service), "serve"), logs: &testkit.LogBuffer{},
		grpc: make(chan string, 1), ended: make(chan error, 1)}
	for name, value := range vars {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewReader(io.TeeReader(stderr, s.logs))
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			var entry struct{ Msg, GRPC string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				s.grpc <- entry.GRPC
			}
		}
		s.ended <- s.cmd.Wait()
	}()
	if s.health, err = grpc.NewClient(health, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.health.Close()
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		if err := testkit.Receive(t, s.ended, time.Minute); err != nil {
			t.Errorf("%s on SIGTERM: %v", service, err)
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%.8000s", service, s.logs)
		}
	})
	return s
}

// kekOf returns a key-encryption key of one letter.
func kekOf(letter string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32)))
}

// state is what the health port answers for a service name; 0 while it isn't served.
func (s *starting) state(name string) healthpb.HealthCheckResponse_ServingStatus {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	answer, err := healthpb.NewHealthClient(s.health).Check(ctx, &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		return 0
	}
	return answer.GetStatus()
}

func (s *starting) eventually(t *testing.T, want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool { return s.state("") == want })
}

// call makes a call to the service's own port, without a token, and returns its reason.
func (s *starting) call(t *testing.T, addr string) string {
	t.Helper()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = statusv1.NewStatusServiceClient(conn).GetStatus(t.Context(), &statusv1.GetStatusRequest{})
	if e := errs.As(err); e != nil {
		return e.Reason
	}
	return fmt.Sprint(err)
}

// entries returns the lines of the log with this message.
func (s *starting) entries(message string) (found []map[string]any) {
	for line := range strings.Lines(s.logs.String()) {
		entry := map[string]any{}
		if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
			found = append(found, entry)
		}
	}
	return found
}

const notReady = "not ready: something that the service needs is missing"

// wantHeld fails the test unless the service says once what is missing, and takes no calls; then it mends that, and
// fails the test unless the service gets ready without another start.
func (s *starting) wantHeld(t *testing.T, missing, reason string, mend func()) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool { return len(s.entries(notReady)) > 0 })
	addr := testkit.Receive(t, s.grpc, 20*time.Second)
	s.eventually(t, notServing)
	if got := s.call(t, addr); got != "STARTING" {
		t.Errorf("a call is answered with %s", got)
	}
	if got := s.state(grpcserver.Liveness); got != serving {
		t.Errorf("its liveness is %s", got)
	}
	if mend != nil {
		mend()
		s.eventually(t, serving)
		if got := s.call(t, addr); got != "TOKEN_MISSING" {
			t.Errorf("a call after the mending is answered with %s", got)
		}
	}
	told := s.entries(notReady)
	reasons := map[any]int{}
	for _, entry := range told { // a server that starts again answers with another reason
		reasons[entry["reason"]]++
		if entry["missing"] != missing || entry["settings"] == "" || reasons[entry["reason"]] > 1 {
			t.Errorf("the log says\n%v, want once %s", entry, missing)
		}
	}
	if told[0]["reason"] != reason || len(told) > 1 && reason != "REFUSED" {
		t.Errorf("the log says\n%v, want once %s", told, reason)
	}
	// Nothing else says the same again.
	for line := range strings.Lines(s.logs.String()) {
		if strings.Contains(line, `"level":"WARN"`) && !slices.ContainsFunc([]string{notReady, "is not set",
			`"dependency":"redis"`, `"dependency":"wallet"`, `"dependency":"chain:1"`, `"dependency":"prices"`,
			`"dependency":"auth_keys","address":"https:`, "redis is unavailable", "redis doesn't answer",
			"nothing is kept in memory", "no token list"},
			func(allowed string) bool { return strings.Contains(line, allowed) }) {
			t.Errorf("the log also says\n%s", line)
		}
	}
}

// home is a server of Postgres with an empty database of a service, and the service's role.
type home struct {
	server  *pgserver.Server
	service string
}

func newHome(t *testing.T, server *pgserver.Server, service string) home {
	t.Helper()
	h := home{server, service}
	for _, err := range []error{server.CreateRole(t.Context(), h.role()),
		server.CreateDatabase(t.Context(), h.role(), h.role())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h home) role() string { return "start_" + h.service }
func (h home) url() string  { return h.server.RoleURL(h.role(), h.role()) }

// with returns the URL with another password.
func (h home) with(t *testing.T, password string) string {
	t.Helper()
	u, err := url.Parse(h.url())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(h.role(), password)
	return u.String()
}

func (h home) exec(t *testing.T, database, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.server.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func (h home) migrate(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(builtPrograms(t), h.service), "migrate", "up")
	cmd.Env = []string{"PURSER_DATABASE_URL=" + h.url(), "PURSER_REDIS_URL=" + servicetest.NoRedis,
		"PURSER_ISSUER=https://auth.example", "PURSER_GRPC_PLAINTEXT=true", "PURSER_KEK=" + kekOf("k"),
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_WALLET_ADDR=127.0.0.1:1", "PURSER_WALLET_PLAINTEXT=true"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("migrate up: %v\n%s", err, out)
	}
}

func TestAServiceThatCantWorkIsNotReadyUntilItCan(t *testing.T) {
	server := testkit.OwnPostgres(t)
	issuer := servicetest.NewIssuer(t)
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		t.Run(service, func(t *testing.T) {
			h := newHome(t, server, service)
			settings := func(more ...string) map[string]string {
				s := map[string]string{"PURSER_DATABASE_URL": h.url()}
				if service != "auth" {
					s["PURSER_ISSUER"] = issuer.URL
				}
				for i := 0; i < len(more); i += 2 {
					s[more[i]] = more[i+1]
				}
				return s
			}
			t.Run("without its schema", func(t *testing.T) {
				begin(t, service, settings()).wantHeld(t, "schema", "SCHEMA_MISSING", func() { h.migrate(t) })
			})
			t.Run("with a wrong password", func(t *testing.T) {
				begin(t, service, settings("PURSER_DATABASE_URL", h.with(t, "hunter2"))).
					wantHeld(t, "postgres", "DATABASE_CREDENTIALS", func() {
						h.exec(t, "postgres", `ALTER ROLE `+h.role()+` PASSWORD 'hunter2'`)
					})
				right, _ := url.Parse(h.url())
				password, _ := right.User.Password()
				h.exec(t, "postgres", `ALTER ROLE `+h.role()+` PASSWORD '`+password+`'`)
			})
			t.Run("with a schema of a later release", func(t *testing.T) {
				h.exec(t, h.role(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true);
					COMMENT ON TABLE goose_db_version IS NULL`)
				begin(t, service, settings()).wantHeld(t, "schema", "SCHEMA_NEWER", func() {
					h.exec(t, h.role(), `DELETE FROM goose_db_version WHERE version_id = 99`)
				})
			})
			if service == "auth" {
				t.Run("with another key-encryption key", func(t *testing.T) {
					begin(t, service, settings("PURSER_KEK", kekOf("x"))).wantHeld(t, "key_ring", "KEK_WRONG", nil)
					// A control: with the former one as the previous it opens.
					begin(t, service, settings("PURSER_KEK", kekOf("x"), "PURSER_KEK_PREVIOUS", kekOf("k"))).
						eventually(t, serving)
				})
				return
			}
			t.Run("with a wrong password of Redis", func(t *testing.T) {
				server := testkit.Redis(t)
				admin, err := redisx.New(redisx.Options{URL: server.URL()})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = admin.Close() }()
				wrong, err := url.Parse(server.URL())
				if err != nil {
					t.Fatal(err)
				}
				wrong.User = url.UserPassword("", "hunter2")
				begin(t, service, settings("PURSER_REDIS_URL", wrong.String())).
					wantHeld(t, "redis", "CREDENTIALS", func() {
						if err := admin.ConfigSet(t.Context(), "requirepass", "hunter2").Err(); err != nil {
							t.Error(err)
						}
					})
			})
			t.Run("with a clock that is wrong", func(t *testing.T) {
				h.exec(t, h.role(), fmt.Sprintf(`CREATE SCHEMA skewed; GRANT USAGE ON SCHEMA skewed TO PUBLIC;
					CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql
						AS $$ SELECT pg_catalog.clock_timestamp() + interval '10 minutes' $$;
					ALTER DATABASE %s SET search_path = skewed, pg_catalog, public`, h.role()))
				begin(t, service, settings()).wantHeld(t, "clock", "CLOCK_SKEWED", func() {
					h.exec(t, h.role(), `CREATE OR REPLACE FUNCTION skewed.clock_timestamp() RETURNS timestamptz
						LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() $$`)
				})
				h.exec(t, h.role(), fmt.Sprintf(`ALTER DATABASE %s RESET search_path`, h.role()))
			})
			t.Run("with another name of the issuer", func(t *testing.T) {
				begin(t, service, settings("PURSER_ISSUER", "https://auth.example", "PURSER_JWKS_URL",
					issuer.URL+"/.well-known/jwks.json")).wantHeld(t, "auth_keys", "ISSUER_MISMATCH", nil)
			})
		})
	}
}

// An outage after the start doesn't take the replicas away, and one at the start is waited for.
func TestReadinessDoesNotFollowAnOutage(t *testing.T) {
	server := testkit.OwnPostgres(t)
	h := newHome(t, server, "wallet")
	h.migrate(t)
	settings := map[string]string{"PURSER_DATABASE_URL": h.url(), "PURSER_ISSUER": servicetest.NewIssuer(t).URL}
	first := begin(t, "wallet", settings)
	first.eventually(t, serving)
	server.Kill()
	testkit.Eventually(t, time.Minute, func() bool {
		return slices.ContainsFunc(first.entries("dependency is unreachable"),
			func(e map[string]any) bool { return e["dependency"] == "postgres" })
	})
	second := begin(t, "wallet", settings)
	second.wantHeld(t, "postgres", "REFUSED", func() {
		if got := first.state(""); got != serving {
			t.Errorf("during the outage the replica that was ready is %s", got)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
