package chassis_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	"github.com/purserhq/purser/services/internal/chassis"
)

type settings struct {
	chassis.Config
	chassis.AuthConfig
	Size int `env:"SIZE" envDefault:"1"`
}

func (s settings) Validate() error      { return s.Config.Validate() }
func (s settings) CheckForServe() error { return s.Config.CheckForServe() }

// environ of a service whose database, Redis and auth are not reachable.
func environ(more ...string) []string {
	return append([]string{
		"PURSER_DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "PURSER_REDIS_URL=redis://127.0.0.1:1/0",
		"PURSER_GRPC_PLAINTEXT=true", "PURSER_ISSUER=http://127.0.0.1:1", "PURSER_AUTH_ADDR=127.0.0.1:1",
		"PURSER_AUTH_PLAINTEXT=true",
	}, more...)
}

func open(t *testing.T, more ...string) (*chassis.Builder, settings) {
	t.Helper()
	cfg, err := chassis.Load[settings](environ(more...))
	if err != nil {
		t.Fatal(err)
	}
	b, err := chassis.Open(t.Context(), "test", fstest.MapFS{}, cfg.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b, cfg
}

func TestAServiceWaitsWhileAllThatItNeedsIsUnavailable(t *testing.T) {
	b, cfg := open(t)
	auth, err := b.DialAuth(cfg.AuthConfig)
	if err != nil || auth == nil {
		t.Fatal(auth, err)
	}
	scheduled, err := b.AddJobs()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := b.NewVerifier(cfg.AuthConfig, auth, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := b.NewServer(verifier, nil)
	if err != nil {
		t.Fatal(err)
	}
	scheduled.Register(server, chassis.TriggerChecks{})
	app, err := b.Listen(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	if got := app.Listeners(); len(got) != 2 || got[0] != "grpc" || got[1] != app.Addr() {
		t.Errorf("listens on %v", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: app.Addr(), Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = jobsv1.NewJobServiceClient(conn).ListJobRuns(ctx, &jobsv1.ListJobRunsRequest{})
	if e := errs.As(err); e == nil || e.Kind != errs.KindUnavailable || e.Reason != "STARTING" {
		t.Errorf("a call is answered with %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOfAServiceThatFailsToStartEverythingIsClosed(t *testing.T) {
	b, _ := open(t)
	var closed []string
	for _, part := range []string{"first", "second"} {
		b.OnClose(part, func() { closed = append(closed, part) })
	}
	err := error(nil)
	b.CloseOnError(&err)
	if len(closed) > 0 {
		t.Fatalf("closed without an error: %v", closed)
	}
	err = io.ErrUnexpectedEOF
	b.CloseOnError(&err)
	if !slices.Equal(closed, []string{"second", "first"}) {
		t.Errorf("closed %v", closed)
	}
}

func TestAJobWithAWrongScheduleNamesItsOwnSetting(t *testing.T) {
	run := func(context.Context, *jobs.Run) error { return nil }
	for setting, want := range map[string]string{
		"PURSER_SYNC_CRON": "PURSER_SYNC_CRON: ", "": `jobs: bad: Cron "at noon": `,
	} {
		b, _ := open(t)
		_, err := b.AddJobs(
			chassis.Job{Job: jobs.Job{Name: "good", Cron: "@daily", Run: run}, CronSetting: "PURSER_OTHER_CRON"},
			chassis.Job{Job: jobs.Job{Name: "bad", Cron: "at noon", Run: run}, CronSetting: setting})
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "OTHER") {
			t.Errorf("with the setting %q: %v", setting, err)
		}
		b.CloseOnError(&err)
	}
}

func TestMigrationsBehindAPoolerNeedTheServersURL(t *testing.T) {
	p := chassis.Program("test", fstest.MapFS{}, func(context.Context, settings, *slog.Logger) (*chassis.App, error) {
		return nil, io.ErrUnexpectedEOF
	})
	for _, command := range []string{"up", "down"} {
		err := p.Run(t.Context(), []string{"migrate", command}, environ("PURSER_DATABASE_PGBOUNCER=true"), io.Discard,
			io.Discard)
		if err == nil || !strings.Contains(err.Error(), "PURSER_MIGRATE_DATABASE_URL") {
			t.Errorf("%s: %v", command, err)
		}
	}
	if _, err := chassis.Load[settings](environ("PURSER_MIGRATE_DATABASE_URL=nonsense://x")); err == nil ||
		!strings.Contains(err.Error(), "PURSER_MIGRATE_DATABASE_URL") {
		t.Errorf("a URL that is none: %v", err)
	}
}

func TestEveryErrorOfTheCommonConfigurationIsReportedAtOnce(t *testing.T) {
	wrong := map[string]string{
		"PURSER_DATABASE_URL": "nonsense://", "PURSER_REDIS_URL": "http://redis", "PURSER_GRPC_ADDR": "nowhere",
		"PURSER_ADMIN_ADDR": "nowhere", "PURSER_SHUTDOWN_DRAIN": "-1s",
	}
	var vars []string
	for name, value := range wrong {
		vars = append(vars, name+"="+value)
	}
	_, err := chassis.Load[settings](vars)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range append(slices.Collect(maps.Keys(wrong)), "PURSER_GRPC_TLS_CERT", "PURSER_ISSUER") {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in\n%v", name, err)
		}
	}
}

func TestAProgramPrintsTheCommonAndTheServicesOwnSettings(t *testing.T) {
	p := chassis.Program("test", fstest.MapFS{}, func(context.Context, settings, *slog.Logger) (*chassis.App, error) {
		return nil, io.ErrUnexpectedEOF
	})
	var out strings.Builder
	if err := p.Run(t.Context(), []string{"config"}, environ("PURSER_SIZE=7"), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"PURSER_SIZE=7\n", "PURSER_REDIS_URL=redis://127.0.0.1:1/0\n",
		"PURSER_AUTH_ADDR=127.0.0.1:1\n"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is missing in\n%s", line, &out)
		}
	}
	if unread := config.Unread(environ("PURSER_SIZES=7"), settings{}); !slices.Equal(unread,
		[]string{"PURSER_SIZES"}) {
		t.Errorf("unread are %v", unread)
	}
	if err := p.Run(t.Context(), []string{"serve"}, environ(), io.Discard, io.Discard); !errors.Is(err,
		io.ErrUnexpectedEOF) {
		t.Errorf("the failure to build is %v", err)
	}
}

// The docs promise the warning at the start; also of a Redis that answers only later.
func TestAServiceWarnsOfARedisThatMayEvictKeys(t *testing.T) {
	r, err := redisserver.Start(t.Context(), redisserver.Options{
		Settings: map[string]string{"maxmemory-policy": "allkeys-lru"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Stop(context.WithoutCancel(t.Context())) }()
	cfg, err := chassis.Load[settings](environ("PURSER_REDIS_URL=" + r.URL()))
	if err != nil {
		t.Fatal(err)
	}
	r.Kill()
	var log testkit.LogBuffer
	b, err := chassis.Open(t.Context(), "test", fstest.MapFS{}, cfg.Config, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Group.Run(ctx) }()
	testkit.Eventually(t, time.Minute, func() bool {
		return strings.Contains(log.String(), "the eviction policy can't be read")
	})
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		return strings.Contains(log.String(), "redis may evict locks and challenges") &&
			strings.Contains(log.String(), "maxmemory_policy=allkeys-lru")
	})
	stop()
	if err := testkit.Receive(t, ended, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestTheFileOfRedissAuthorityIsCheckedBeforeTheStart(t *testing.T) {
	url := "PURSER_REDIS_URL=rediss://redis:6379/0?ca_file=/none/ca.pem"
	cfg, err := chassis.Load[settings](environ(url))
	if err != nil {
		t.Fatalf("other commands need no file: %v", err)
	}
	if err := cfg.CheckForServe(); err == nil || !strings.Contains(err.Error(), "PURSER_REDIS_URL: ") ||
		!strings.Contains(err.Error(), "/none/ca.pem") {
		t.Error(err)
	}
}
