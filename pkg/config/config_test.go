package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/config"
)

type limits struct {
	Wait time.Duration `env:"WAIT" envDefault:"1s"`
}

type database struct {
	URL   config.Secret `env:"URL,required,notEmpty"`
	Conns int           `env:"CONNS" envDefault:"4"`
}

type settings struct {
	Database database `envPrefix:"DATABASE_"`
	Limits   limits   // without a prefix
	Name     string   `env:"NAME,required"`
	Port     int      `env:"PORT"`
	Tokens   []config.Secret
	Keys     []config.Secret `env:"KEYS"`
	hidden   config.Secret   `env:"HIDDEN"` //nolint:unused // the parser and Print must pass over it
}

func (s settings) Validate() error {
	if s.Port > 65535 {
		return errors.New("PURSER_PORT must be at most 65535")
	}
	return nil
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryErrorIsReportedAtOnce(t *testing.T) {
	var s settings
	err := config.Load([]string{
		"PURSER_PORT=70000", "PURSER_WAIT=soon", "PURSER_DATABASE_CONNS=many",
		"PURSER_A=1", "PURSER_A_FILE=/x", "PURSER_B_FILE=" + filepath.Join(t.TempDir(), "absent"),
	}, &s)
	if err == nil {
		t.Fatal("six errors were accepted")
	}
	for _, want := range []string{
		"PURSER_NAME", "PURSER_DATABASE_URL", "PURSER_PORT must be at most 65535",
		"PURSER_A and PURSER_A_FILE are both set", "PURSER_B_FILE", "PURSER_WAIT", "PURSER_DATABASE_CONNS",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no mention of %q in:\n%v", want, err)
		}
	}
	for range 20 {
		var again settings
		if second := config.Load([]string{"PURSER_A=1", "PURSER_A_FILE=/x", "PURSER_B_FILE=/absent",
			"PURSER_C_FILE=/absent"}, &again).Error(); strings.Index(second, "PURSER_B_FILE") > strings.Index(second,
			"PURSER_C_FILE") {
			t.Fatalf("the order of the errors changes from run to run:\n%s", second)
		}
	}
}

func TestAValueComesFromAFile(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"as it stands":                    {"postgres://x", "postgres://x"},
		"less its final newline":          {"postgres://x\n", "postgres://x"},
		"less a newline of Windows":       {"postgres://x\r\n", "postgres://x"},
		"with the spaces and lines in it": {" a\nb \n", " a\nb "},
	} {
		t.Run(name, func(t *testing.T) {
			var s settings
			err := config.Load([]string{"PURSER_NAME=n", "PURSER_DATABASE_URL_FILE=" + file(t, tt.content)}, &s)
			if err != nil || s.Database.URL.Reveal() != tt.want {
				t.Errorf("%q, %v", s.Database.URL.Reveal(), err)
			}
		})
	}
}

func TestAnEmptyFileIsAnError(t *testing.T) {
	for name, content := range map[string]string{"of no bytes": "", "of a newline": "\n"} {
		t.Run(name, func(t *testing.T) {
			var s settings
			err := config.Load([]string{"PURSER_NAME=n", "PURSER_DATABASE_URL=u",
				"PURSER_PORT_FILE=" + file(t, content)}, &s)
			if err == nil || !strings.Contains(err.Error(), "PURSER_PORT_FILE: the file ") ||
				!strings.Contains(err.Error(), " is empty") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestVariablesThatNothingReadsAreFound(t *testing.T) {
	got := config.Unread([]string{
		"PURSER_DATABASE_URL_FILE=/x", "PURSER_WAIT=1s", "PURSER_KEYS=a", "PURSER_DATABASE_URI=u", "PURSER_TOKENS=a",
		"PURSER_HIDDEN=h",
		"PURSER_WALLET_SERVICE_PORT_GRPC=1", "PURSER_WALLET_PORT=tcp://10.0.0.1:1", "OTHER_X=1",
	}, settings{})
	if want := "[PURSER_DATABASE_URI PURSER_HIDDEN PURSER_TOKENS]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestAnAddressIsHostAndPort(t *testing.T) {
	for value, fine := range map[string]bool{"": true, "localhost:1": true, ":7601": true, "[::1]:1": true,
		"localhost": false, "localhost:": false, "::1:1": false, "http://x:1": false} {
		if err := config.HostPort("PURSER_ADDR", value); (err == nil) != fine {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestAFileAndAVariableTogetherAreAnError(t *testing.T) {
	for name, value := range map[string]string{"with different values": "postgres://y", "with an empty variable": ""} {
		t.Run(name, func(t *testing.T) {
			var s settings
			err := config.Load([]string{"PURSER_NAME=n", "PURSER_DATABASE_URL=" + value,
				"PURSER_DATABASE_URL_FILE=" + file(t, "postgres://x")}, &s)
			if err == nil || !strings.Contains(err.Error(),
				"PURSER_DATABASE_URL and PURSER_DATABASE_URL_FILE are both set") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAFileOfAnotherProgramIsLeftAlone(t *testing.T) {
	var s settings
	if err := config.Load([]string{"PURSER_NAME=n", "PURSER_DATABASE_URL=u", "SSL_CERT_FILE=/absent"},
		&s); err != nil {
		t.Error(err)
	}
}

func TestAnUnreadableFileIsReportedWithoutAnyContent(t *testing.T) {
	var s settings
	err := config.Load([]string{"PURSER_NAME=n", "PURSER_DATABASE_URL_FILE=" + t.TempDir()}, &s)
	if err == nil || !strings.Contains(err.Error(), "PURSER_DATABASE_URL_FILE") {
		t.Errorf("error %v", err)
	}
}

const value = "hunter2"

type holder struct {
	Key  config.Secret
	Ptr  *config.Secret
	List []config.Secret
	Map  map[string]config.Secret
}

func TestASecretIsNeverShown(t *testing.T) {
	s := config.Secret(value)
	h := holder{s, &s, []config.Secret{s}, map[string]config.Secret{"k": s}}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%U", "%e", "%20v",
		"%-5s", "%!"} {
		for _, arg := range []any{s, &s, h, &h, []any{s}} {
			shown = append(shown, fmt.Sprintf(verb, arg))
		}
	}
	shown = append(shown, fmt.Sprint(s, h), fmt.Sprintln(s, h), fmt.Errorf("x: %v", s).Error(), s.String())
	for _, v := range []any{s, h, map[string]any{"a": s}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(b))
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		l := slog.New(handler).With("with", s)
		l.Info("m", "s", s, "p", &s, "h", h, slog.Group("g", slog.Any("s", s)))
		l.Info("m", slog.Any("list", []config.Secret{s}))
	}
	shown = append(shown, log.String())
	for _, text := range shown {
		for _, leak := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)} {
			if strings.Contains(text, leak) {
				t.Errorf("shown: %s", text)
			}
		}
	}
	if s.Reveal() != value {
		t.Error("the value itself is gone")
	}
}

func TestPrintShowsTheEffectiveSettingsWithSecretsMasked(t *testing.T) {
	var s settings
	if err := config.Load([]string{"PURSER_NAME=n", "PURSER_DATABASE_URL=" + value,
		"PURSER_KEYS=" + value + "," + value}, &s); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]any{"a struct": s, "a pointer to one": &s} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := config.Print(&out, cfg); err != nil {
				t.Fatal(err)
			}
			want := "PURSER_DATABASE_CONNS=4\nPURSER_DATABASE_URL=***\nPURSER_KEYS=[*** " +
				"***]\nPURSER_NAME=n\nPURSER_PORT=0\nPURSER_WAIT=1s\n"
			if out.String() != want {
				t.Errorf("printed\n%swant\n%s", out.String(), want)
			}
		})
	}
}

func TestAnEmptySecretIsSeenToBeEmpty(t *testing.T) {
	if got := fmt.Sprint(config.Secret("")); got != "" {
		t.Errorf("printed %q", got)
	}
}
