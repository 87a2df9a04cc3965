package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/config"
	authapp "github.com/purserhq/purser/services/auth/app"
	"github.com/purserhq/purser/services/devstack/suite"
	portfolioapp "github.com/purserhq/purser/services/portfolio/app"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

// names are the variables of a configuration.
func names(t *testing.T, cfg any) []string {
	t.Helper()
	var out bytes.Buffer
	if err := config.Print(&out, cfg); err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(out.String()) {
		name, _, _ := strings.Cut(line, "=")
		all = append(all, name)
	}
	return all
}

func TestEverySettingOfAServiceReachesItOrIsRefusedByName(t *testing.T) {
	readBy := map[string][]string{}
	for service, cfg := range map[string]any{"auth": authapp.Config{}, "wallet": walletapp.Config{},
		"portfolio": portfolioapp.Config{}} {
		for _, name := range names(t, cfg) {
			readBy[name] = append(readBy[name], service)
		}
	}
	own := names(t, settings{})
	reached, refused := 0, 0
	for name, services := range readBy {
		for _, variable := range []string{name, name + "_FILE"} {
			extra, err := suite.Settings([]string{"HOME=/", variable + "=x"}, settings{})
			switch {
			case slices.Contains(own, name):
				if err != nil || len(extra) != 0 {
					t.Errorf("%s, which the suite reads itself: %v, %v", variable, extra, err)
				}
			case err != nil:
				if refused++; !strings.HasPrefix(err.Error(), variable+" can't be set here: ") || len(extra) != 0 {
					t.Errorf("%s: %v, %v", variable, extra, err)
				}
			default:
				reached++
				for _, service := range []string{"auth", "wallet", "portfolio"} {
					got := slices.Equal(extra[service], []string{variable + "=x"})
					if got != slices.Contains(services, service) {
						t.Errorf("%s is read by %v and given to %v", variable, services, extra)
					}
				}
			}
		}
	}
	if reached < 60 || refused < 30 {
		t.Errorf("%d reach a service, %d are refused: the walk is wrong", reached, refused)
	}
	for _, name := range []string{"PURSER_ISSUER", "PURSER_HTTP_BASE_URL", "PURSER_LOG_LEVEL"} {
		if !slices.Contains(own, name) {
			t.Errorf("%s is not read", name)
		}
	}
}

func TestAllUselessSettingsAreNamedTogether(t *testing.T) {
	_, err := suite.Settings([]string{"PURSER_ADMIN_ADDR=:1", "PURSER_KEYS_ALG=RS256", "PURSER_ISSUR_FILE=x",
		"PURSER_PROVE=1", "PURSER_KEYS_POLL=1s", "PURSER_DEV_PORT=1", "OTHER_ADDR=:1",
		"PURSER_DB_SERVICE_HOST=10.0.0.1"}, settings{}) // the last one is Kubernetes'
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "PURSER_ADMIN_ADDR can't be set here") ||
		!strings.HasPrefix(lines[1], "PURSER_ISSUR_FILE is no setting") ||
		!strings.HasPrefix(lines[2], "PURSER_KEYS_ALG is no setting") {
		t.Errorf("%q", lines)
	}
}

func TestASettingTakesThePlaceOfTheSuitesOwn(t *testing.T) {
	base := []string{"PURSER_A=1", "PURSER_B=1", "PURSER_AB=1"}
	got := suite.Override(base, []string{"PURSER_A_FILE=/a", "PURSER_B=2", "PURSER_C=3"})
	if want := []string{"PURSER_AB=1", "PURSER_A_FILE=/a", "PURSER_B=2", "PURSER_C=3"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !slices.Equal(base, []string{"PURSER_A=1", "PURSER_B=1", "PURSER_AB=1"}) {
		t.Errorf("the suite's own became %v", base)
	}
}

func TestACommandPutsTheDataFolderInFront(t *testing.T) {
	for dir, want := range map[string]string{"": "", "/tmp/a-b.c": "PURSER_DEV_DIR=/tmp/a-b.c ",
		"my data": "PURSER_DEV_DIR='my data' ", "it's": `PURSER_DEV_DIR='it'\''s' `} {
		if got := (guide{configuredDir: dir}).setDir(); got != want {
			t.Errorf("%q: %s, want %s", dir, got, want)
		}
	}
}
