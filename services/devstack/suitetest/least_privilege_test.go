package suitetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// pageBlocks are the blocks of a language of docs/least-privilege.md, for a service.
func pageBlocks(t *testing.T, language, service string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, "docs/least-privilege.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(text), "```"+language+"\n")[1:] {
		body, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, strings.ReplaceAll(body, "purser_auth", "purser_"+service))
	}
	return blocks
}

// restrictedRedis is a Redis of a service's own, with the user of the page.
type restrictedRedis struct {
	url     string
	admin   *redis.Client
	granted []string
}

func restrictRedis(t *testing.T, service string) restrictedRedis {
	t.Helper()
	s := testkit.Redis(t)
	r := restrictedRedis{admin: admin(t, s)}
	lines := strings.NewReplacer("\\\n", "", "'", "", "redis-cli ", "").Replace(pageBlocks(t, "text", service)[0])
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if words[2] != "purser-"+service {
			continue
		}
		password := rand.Text()
		args := make([]any, len(words))
		for i, word := range words {
			args[i] = strings.Replace(word, "PASSWORD", password, 1)
			if command, ok := strings.CutPrefix(word, "+"); ok {
				r.granted = append(r.granted, command)
			}
		}
		if err := r.admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		u := url.URL{Scheme: "redis", User: url.UserPassword(words[2], password),
			Host: fmt.Sprintf("127.0.0.1:%d", s.Port()), Path: "/0"}
		r.url = u.String()
	}
	if err := r.admin.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

func admin(t *testing.T, s *redisserver.Server) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// withoutUse are commands of the page that a run of the suite does not need, with the reason why they are there.
func withoutUse() map[string]string {
	return map[string]string{
		"mget":    "auth reads key sets from Redis while its Postgres is unavailable",
		"pexpire": "a load of a cache, or a lock, takes so long that its lease is renewed",
		"zrem":    "an invalidation",
		"del":     "an invalidation, or a released lock",
	}
}

var statistics = regexp.MustCompile(`cmdstat_([a-z|]+):calls=`)

// check looks at what a service did in its Redis.
func (r restrictedRedis) check(t *testing.T, service string) {
	t.Helper()
	refused, err := r.admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(refused) > 0 {
		t.Errorf("%s was refused %v, %v", service, refused, err)
	}
	keys := allKeys(t, r.admin)
	if len(keys) == 0 {
		t.Errorf("%s has no keys", service)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "purser:"+service+":") {
			t.Errorf("%s has the key %q", service, key)
		}
	}
	info, err := r.admin.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, match := range statistics.FindAllStringSubmatch(info, -1) {
		used = append(used, match[1])
	}
	for _, command := range r.granted {
		if !slices.Contains(used, command) && withoutUse()[command] == "" {
			t.Errorf("%s is allowed %s, which it has not used: %v", service, command, used)
		}
	}
}

func allKeys(t *testing.T, c *redis.Client) []string {
	t.Helper()
	var keys []string
	for i := c.Scan(context.WithoutCancel(t.Context()), 0, "*", 1000).Iterator(); i.Next(t.Context()); {
		keys = append(keys, i.Val())
	}
	return keys
}

// restrictDatabase applies the page's grants to a new database of a service, migrates it as its owner, and returns the
// URL of the role that serves.
func restrictDatabase(t *testing.T, b *suite.Infrastructure, service string, environ []string) string {
	t.Helper()
	owner := setting(environ, "PURSER_DATABASE_URL")
	blocks := pageBlocks(t, "sql", service)
	role, err := pgx.Connect(t.Context(), b.Postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = role.Close(t.Context()) }()
	for statement := range strings.SplitSeq(blocks[0], ";") {
		// The suite has made the owner and the database.
		if strings.TrimSpace(statement) == "" || strings.Contains(statement, "CREATE DATABASE") ||
			strings.Contains(statement, "CREATE ROLE purser_"+service+" ") {
			continue
		}
		if _, err := role.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	runAs(t, owner, blocks[1])
	migrate := exec.CommandContext(t.Context(), filepath.Join(builtPrograms(t), service), "migrate", "up")
	migrate.Env = environ
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runAs(t, owner, blocks[2])
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("purser_"+service+"_serve", "choose another")
	return u.String()
}

func runAs(t *testing.T, databaseURL, sql string) {
	t.Helper()
	if err := try(t, databaseURL, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func try(t *testing.T, databaseURL, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

func setting(environ []string, name string) string {
	for _, v := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func TestTheSuiteNeedsNoMoreThanItsPageAllows(t *testing.T) {
	t.Parallel()
	b := startInfrastructure(t, suite.Options{})
	redises, databases := map[string]restrictedRedis{}, map[string]string{}
	start := func(service string, environ []string) map[string]string {
		redises[service] = restrictRedis(t, service)
		databases[service] = restrictDatabase(t, b, service, environ)
		return launch(t, filepath.Join(builtPrograms(t), service), suite.Override(environ, []string{
			"PURSER_DATABASE_URL=" + databases[service], "PURSER_REDIS_URL=" + redises[service].url})).Addrs
	}
	var e suite.Endpoints
	auth := start("auth", b.AuthEnviron())
	e.Auth, e.AuthHTTP = auth["grpc"], auth["http"]
	for _, args := range b.EnsureServiceAccounts() {
		ensure := exec.CommandContext(t.Context(), filepath.Join(builtPrograms(t), "auth"), args...)
		ensure.Env = suite.Override(b.AuthEnviron(), []string{"PURSER_DATABASE_URL=" + databases["auth"],
			"PURSER_REDIS_URL=" + redises["auth"].url})
		if out, err := ensure.CombinedOutput(); err != nil {
			t.Fatalf("auth service-account ensure: %v\n%s", err, out)
		}
	}
	e.Wallet = start("wallet", b.WalletEnviron(e))["grpc"]
	e.Portfolio = start("portfolio", b.PortfolioEnviron(e))["grpc"]
	for _, addr := range []string{e.Auth, e.Wallet, e.Portfolio} {
		if err := suite.Healthy(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
	}
	runDemoAndCheck(t, b, demo.Options{Endpoints: e})
	startAndRefuseWalletLogin(t, dial(t, e), b)

	for service, r := range redises {
		r.check(t, service)
		for _, forbidden := range []string{"CREATE TABLE x (n int)", "DROP TABLE cache_invalidations",
			"ALTER TABLE cache_invalidations ADD n int", "UPDATE goose_db_version SET version_id = 0"} {
			if err := try(t, databases[service], forbidden); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("%s may %s: %v", service, forbidden, err)
			}
		}
		other := redis.NewClient(&redis.Options{Addr: r.admin.Options().Addr, Username: "purser-" + service,
			Password: password(t, r.url)})
		for _, forbidden := range [][]any{{"get", "purser:another:x"}, {"flushall"}, {"keys", "*"},
			{"publish", "x", "y"}, {"config", "get", "*"}} {
			if err := other.Do(t.Context(), forbidden...).Err(); err == nil ||
				!strings.Contains(err.Error(), "NOPERM") {
				t.Errorf("%s may %v: %v", service, forbidden, err)
			}
		}
		_ = other.Close()
	}
	if err := try(t, databases["auth"], "DROP TRIGGER audit_events_append_only ON audit_events"); err == nil {
		t.Error("auth may drop the trigger that keeps audit events")
	}
}

func password(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := u.User.Password()
	return text
}

// startAndRefuseWalletLogin stores a challenge and uses it up.
func startAndRefuseWalletLogin(t *testing.T, c *demo.Clients, b *suite.Infrastructure) {
	t.Helper()
	started, err := c.Sessions.StartWalletLogin(t.Context(), &authv1.StartWalletLoginRequest{
		Address: b.Chain.Holders()[0].Hex(), ChainId: b.Chain.ChainID()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Sessions.FinishWalletLogin(t.Context(), &authv1.FinishWalletLoginRequest{
		Message: started.GetMessage(), Signature: "0x" + strings.Repeat("11", 64) + "1b"})
	if err == nil {
		t.Fatal("a made-up signature signs in")
	}
}
