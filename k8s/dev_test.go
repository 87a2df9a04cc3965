package k8s_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// cluster runs the containers of the dev overlay as processes on this machine.
type cluster struct {
	rendering
	addr   map[string]string // gRPC addresses by service
	health map[string]string // health-check addresses by service
	http   string            // auth's HTTP address
}

func TestTheDevOverlayComesUp(t *testing.T) {
	t.Parallel()
	c := cluster{render(t, "dev"), map[string]string{}, map[string]string{}, freeAddr(t)}
	for _, service := range services() {
		c.addr[service], c.health[service] = freeAddr(t), freeAddr(t)
	}
	c.startStores(t)
	// The migration Jobs run for a first release and once more for the next one.
	for round, output := range []string{"became its newest secret", "is a secret of it"} {
		for _, service := range services() {
			j, _ := named[*batchv1.Job](c.rendering, service+"-migrate")
			w := workload{"Job " + j.Name, j, &j.Spec.Template}
			for _, container := range w.containers() {
				out, err := c.command(t, w, container, container.Args...).CombinedOutput()
				if err != nil || container.Args[0] == "service-account" && !strings.Contains(string(out), output) {
					t.Fatalf("round %d: %s: %v: %s", round, w.name, err, out)
				}
			}
		}
	}
	for _, w := range workloads(c.rendering) {
		if w.label("component") == "server" {
			container := w.containers()[0]
			p := start(t, c.command(t, w, container, container.Args...))
			defer p.stop(t)
			p.ready(t, func() *exec.Cmd { return c.command(t, w, container, "healthcheck") })
		}
	}
	c.callWalletAsPortfolio(t)
}

// startStores starts Postgres, prepared by the overlay's init.sql, and Redis, and
// puts their addresses into the rendered Secrets.
func (c cluster) startStores(t *testing.T) {
	t.Helper()
	postgres, redis := testkit.OwnPostgres(t), testkit.Redis(t)
	script, err := os.ReadFile("overlays/dev/init.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, statement := range strings.SplitAfter(strings.TrimSpace(string(script)), ";\n") {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for _, s := range all[*corev1.Secret](c.rendering) {
		for key, value := range s.Data {
			text := strings.ReplaceAll(string(value), "@postgres:5432", fmt.Sprintf("@127.0.0.1:%d", postgres.Port()))
			s.Data[key] = []byte(strings.ReplaceAll(text, "redis://redis:6379/0", redis.URL()))
		}
	}
}

// command runs a service's program with the environment, files and arguments of
// its container; only addresses and paths are those of this machine.
func (c cluster) command(t *testing.T, w workload, container *corev1.Container, args ...string) *exec.Cmd {
	t.Helper()
	service := w.label("name")
	dir := mount(t, c.rendering, renderedSecrets(c.rendering), w, container)
	env := environment(c.rendering, container, dir)
	local := map[string]string{
		"PURSER_GRPC_ADDR": c.addr[service], "PURSER_GRPC_HEALTH_ADDR": c.health[service],
		"PURSER_ADMIN_ADDR": "127.0.0.1:0", "PURSER_METRICS_ADDR": "127.0.0.1:0", "PURSER_HTTP_ADDR": c.http,
		"PURSER_AUTH_ADDR": c.addr["auth"], "PURSER_WALLET_ADDR": c.addr["wallet"], "PURSER_SHUTDOWN_NOTICE": "0s",
	}
	for name := range local {
		if _, ok := env[name]; !ok {
			delete(local, name)
		}
	}
	maps.Copy(env, local)
	if service != "auth" {
		env["PURSER_JWKS_URL"] = "http://" + c.http + "/.well-known/jwks.json"
	}
	cmd := exec.CommandContext(t.Context(), program(t, service))
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for _, arg := range args {
		for _, m := range container.VolumeMounts {
			arg = strings.Replace(arg, "="+m.MountPath+"/", "="+filepath.Join(dir, m.MountPath)+"/", 1)
		}
		cmd.Args = append(cmd.Args, arg)
	}
	return cmd
}

// callWalletAsPortfolio reads a user's holdings from wallet with a token of
// portfolio's service account, as portfolio's jobs do. It succeeds only if the
// Secret, the service account, its permissions and the address of the key set
// match.
func (c cluster) callWalletAsPortfolio(t *testing.T) {
	t.Helper()
	dial := func(service string) *grpc.ClientConn {
		conn, err := grpcclient.Dial(grpcclient.Config{Addr: c.addr[service], Plaintext: true, Timeout: time.Minute},
			nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	auth := dial("auth")
	var portfolio string
	for _, service := range []string{"wallet", "portfolio"} { // both follow the deletions of users
		var secret string
		for _, s := range all[*corev1.Secret](c.rendering) {
			if strings.HasPrefix(s.Name, service+"-service-") {
				secret = string(s.Data["secret"])
			}
		}
		token, err := authv1.NewSessionServiceClient(auth).IssueServiceAccountToken(t.Context(),
			&authv1.IssueServiceAccountTokenRequest{ClientId: service, ClientSecret: secret})
		if err != nil {
			t.Fatal(err)
		}
		_, err = authv1.NewDeletionServiceClient(auth).ListDeletions(
			grpcclient.WithToken(t.Context(), token.GetAccessToken()), &authv1.ListDeletionsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		portfolio = token.GetAccessToken()
	}
	_, err := walletv1.NewHoldingsServiceClient(dial("wallet")).GetHoldings(
		grpcclient.WithToken(t.Context(), portfolio),
		&walletv1.GetHoldingsRequest{OwnerId: uuid.NewString()})
	if err != nil {
		t.Error(err)
	}
}
