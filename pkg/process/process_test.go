package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/testkit"
)

type settings struct {
	Process  process.Config
	Password config.Secret `env:"PASSWORD,required"`
}

// runs calls f when it is run, and ends with the context.
type runs func()

func (r runs) Run(ctx context.Context) error {
	r()
	<-ctx.Done()
	return nil
}

func program(running func(log *slog.Logger)) process.Service[settings] {
	return process.Service[settings]{
		Name: "ledger",
		Load: func(environ []string) (settings, error) {
			var c settings
			return c, config.Load(environ, &c)
		},
		Process: func(c settings) process.Config { return c.Process },
		New: func(_ context.Context, _ settings, log *slog.Logger) (process.Runner, error) {
			return runs(func() { running(log) }), nil
		},
		Migrate: func(_ context.Context, _ settings, what string, out io.Writer, _ *slog.Logger) error {
			_, err := fmt.Fprintln(out, "migrated", what)
			return err
		},
		Health: func(context.Context, settings) error { return errors.New("NOT_SERVING") },
		Command: func(_ context.Context, _ settings, _ *slog.Logger, args []string, out io.Writer) error {
			if args[0] != "keys" {
				return process.ErrUnknownCommand
			}
			_, err := fmt.Fprintln(out, args)
			return err
		},
		Usage: "keys list                 the keys",
	}
}

func TestEachCommandDoesWhatItSays(t *testing.T) {
	for _, tt := range []struct {
		args, out, failure string
	}{
		{"migrate up", "migrated up\n", ""},
		{"config", "PURSER_ADMIN_ADDR=\nPURSER_LOG_LEVEL=INFO\nPURSER_METRICS_ADDR=\nPURSER_PASSWORD=***\n", ""},
		{"healthcheck", "", "NOT_SERVING"},
		{"keys list", "[keys list]\n", ""},
		{"", "", "a command is missing"},
		{"mend", "", "unknown command \"mend\", must be one of\nserve "},
		{"key", "", "unknown command \"key\""},
		{"migrate", "", "migrate must be followed by up, down or status"},
		{"migrate sideways", "", "migrate must be followed by up, down or status"},
		{"migrate up down", "", "migrate must be followed by up, down or status"},
		{"config -v", "", "config takes no arguments"},
	} {
		var out bytes.Buffer
		err := program(nil).Run(t.Context(), strings.Fields(tt.args), []string{"PURSER_PASSWORD=x"}, &out, io.Discard)
		if out.String() != tt.out || (err == nil) != (tt.failure == "") ||
			err != nil && !strings.HasPrefix(err.Error(), tt.failure) {
			t.Errorf("%s: %q, %v", tt.args, out.String(), err)
		}
	}
}

func TestCommandsThatNeedNoConfigurationReadNone(t *testing.T) {
	for _, command := range []string{"version", "help"} {
		var out bytes.Buffer
		if err := program(nil).Run(t.Context(), []string{command}, nil, &out, io.Discard); err != nil ||
			!strings.Contains(out.String(), "e") {
			t.Errorf("%s: %q, %v", command, out.String(), err)
		}
	}
	for _, command := range []string{"serve", "migrate up", "config", "healthcheck", "keys"} {
		err := program(nil).Run(t.Context(), strings.Fields(command), []string{"PURSER_LOG_LEVEL=loud"}, io.Discard,
			io.Discard)
		if err == nil || !strings.Contains(err.Error(), "PURSER_PASSWORD") ||
			!strings.Contains(err.Error(), "PURSER_LOG_LEVEL") {
			t.Errorf("%s without its configuration: %v", command, err)
		}
	}
}

func TestAnUnknownCommandIsReportedBeforeTheConfigurationIsRead(t *testing.T) {
	for _, args := range []string{"mend", "migrate", "serve now"} {
		if err := program(nil).Run(t.Context(), strings.Fields(args), nil, io.Discard, io.Discard); err == nil ||
			strings.Contains(err.Error(), "PURSER_PASSWORD") {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestErrorsThatMatterToServingAloneAreReportedWithTheOthers(t *testing.T) {
	p := program(nil)
	p.Check = func(settings) error { return errors.New("PURSER_LIST: no such file") }
	for name, tt := range map[string]struct {
		command string
		environ []string
		want    []string // of the error; none for no error
	}{
		"serve":                     {"serve", []string{"PURSER_PASSWORD=x"}, []string{"configuration:\nPURSER_LIST"}},
		"config":                    {"config", []string{"PURSER_PASSWORD=x"}, nil},
		"serve with several errors": {"serve", nil, []string{"PURSER_PASSWORD", "\nPURSER_LIST"}},
		"a migration":               {"migrate up", []string{"PURSER_PASSWORD=x"}, nil},
	} {
		err := p.Run(t.Context(), strings.Fields(tt.command), tt.environ, io.Discard, io.Discard)
		if (err != nil) != (tt.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range tt.want {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s does not tell %q: %v", name, want, err)
			}
		}
	}
}

func TestAVariableThatNothingReadsIsNamedAtTheStart(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	logs := &testkit.LogBuffer{}
	if err := program(func(*slog.Logger) { stop() }).Run(ctx, []string{"serve"}, []string{
		"PURSER_PASSWORD=x", "PURSER_LOGLEVEL=DEBUG", "PURSER_LEDGER_SERVICE_HOST=10.0.0.1",
		"PURSER_LEDGER_PORT_7601_TCP_ADDR=10.0.0.1", "HOME=/",
	}, io.Discard, logs); err != nil {
		t.Fatal(err)
	}
	if got := logs.String(); !strings.Contains(got, `"names":["PURSER_LOGLEVEL"]`) || strings.Contains(got, "DEBUG") {
		t.Errorf("the log is\n%s", got)
	}
}

func TestTheAdminPortServesMetricsProfilesAndTheLogLevel(t *testing.T) {
	addr, metrics := freeAddr(t), freeAddr(t)
	ctx, stop := context.WithCancel(t.Context())
	running := make(chan *slog.Logger, 1)
	ended := make(chan error, 1)
	logs := &testkit.LogBuffer{}
	go func() {
		ended <- program(func(log *slog.Logger) { running <- log }).
			Run(ctx, []string{"serve"}, []string{"PURSER_PASSWORD=x", "PURSER_ADMIN_ADDR=" + addr,
				"PURSER_METRICS_ADDR=" + metrics}, io.Discard, logs)
	}()
	log := <-running
	for path, want := range map[string]string{"/metrics": "go_goroutines", "/debug/pprof/": "heap",
		"/log-level": "INFO"} {
		if got := call(t, http.MethodGet, "http://"+addr+path, "", http.StatusOK); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%.300s", path, want, got)
		}
	}
	// Who may scrape metrics may do no more.
	if got := call(t, http.MethodGet, "http://"+metrics+"/metrics", "", http.StatusOK); !strings.Contains(got,
		"go_goroutines") {
		t.Errorf("the port of metrics has none:\n%.300s", got)
	}
	for _, path := range []string{"/", "/debug/pprof/", "/debug/pprof/profile", "/log-level"} {
		call(t, http.MethodGet, "http://"+metrics+path, "", http.StatusNotFound)
	}
	call(t, http.MethodPut, "http://"+metrics+"/log-level", "DEBUG", http.StatusNotFound)
	log.Debug("before")
	call(t, http.MethodPut, "http://"+addr+"/log-level", "loud", http.StatusBadRequest)
	call(t, http.MethodPut, "http://"+addr+"/log-level", "DEBUG", http.StatusOK)
	log.Debug("after")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := logs.String(); strings.Contains(got, "before") || !strings.Contains(got, "after") ||
		!strings.Contains(got, `"service":"ledger"`) {
		t.Errorf("the log is\n%s", got)
	}
	for _, addr := range []string{addr, metrics} {
		if _, err := net.Dial("tcp", addr); err == nil {
			t.Error("a port is open after the end:", addr)
		}
	}
}

func TestAPortInUseIsNamed(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	for _, name := range []string{"PURSER_ADMIN_ADDR", "PURSER_METRICS_ADDR"} {
		err := program(nil).Run(t.Context(), []string{"serve"},
			[]string{"PURSER_PASSWORD=x", name + "=" + lis.Addr().String()}, io.Discard, io.Discard)
		if err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("answered %v", err)
		}
	}
}

// freeAddr is one that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}

func call(t *testing.T, method, url, body string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Errorf("%s %s answers %s, %v", method, url, resp.Status, err)
	}
	return string(b)
}
