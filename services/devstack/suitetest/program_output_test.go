package suitetest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// secretText is part of every value that must not be printed.
const secretText = "hunter2"

// validSettings is a configuration that all three programs accept; nothing listens at its addresses.
func validSettings() map[string]string {
	return map[string]string{
		"PURSER_DATABASE_URL": "postgres://u:" + secretText + "@127.0.0.1:1/d",
		"PURSER_REDIS_URL":    "redis://:" + secretText + "@127.0.0.1:1/0",
		"PURSER_ISSUER":       "https://auth.example",
		"PURSER_KEK": base64.StdEncoding.EncodeToString(
			[]byte(secretText + strings.Repeat("k", 32-len(secretText)))),
		"PURSER_GRPC_PLAINTEXT": "true",
		"PURSER_CHAIN_RPC_URLS": "1=https://node.example/" + secretText,
		"PURSER_PRICE_URL":      "https://prices.example/" + secretText,
		"PURSER_WALLET_ADDR":    "wallet.example:7602", "PURSER_WALLET_PLAINTEXT": "true",
		"PURSER_AUTH_ADDR": "auth.example:7601", "PURSER_AUTH_PLAINTEXT": "true",
		"PURSER_SERVICE_ID": "portfolio", "PURSER_SERVICE_SECRET": secretText,
		"PURSER_SMTP_ADDR": "mail.example:587", "PURSER_SMTP_USER": "u", "PURSER_SMTP_PASSWORD": secretText,
		"PURSER_SMTP_FROM": "no-reply@example.com",
		"PURSER_OAUTH_PROVIDERS": `[{"name":"google","kind":"google","client_id":"i","client_secret":"` + secretText +
			`"}]`,
	}
}

// program runs a service's program with exactly these variables. It returns its output on stdout and stderr,
// and its exit code.
func program(t *testing.T, name string, vars map[string]string, args ...string) (printed string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(builtPrograms(t), name), args...)
	cmd.Env = []string{}
	for _, v := range slices.Sorted(maps.Keys(vars)) {
		cmd.Env = append(cmd.Env, v+"="+vars[v])
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestProgramsPrintResultsAndErrorsWithoutSecrets(t *testing.T) {
	dir := t.TempDir()
	writeFile := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	everyService := []string{"auth", "wallet", "portfolio"}
	configErrors := func(lines ...string) []string { return append([]string{"configuration:\n"}, lines...) }
	for name, tt := range map[string]struct {
		services []string
		args     string
		set      map[string]string // "" removes the variable
		bare     bool              // only the variables of set
		code     int
		want     []string
	}{
		"help needs no configuration": {everyService, "help", nil, true, 0,
			[]string{"serve ", "migrate up|down|status", "healthcheck ", "config ", "version ", "PURSER_X_FILE"}},
		"no command": {everyService, "", nil, false, 2,
			[]string{" COMMAND\n", "serve ", "migrate up|down|status", "PURSER_X_FILE"}},
		"version needs no configuration": {everyService, "version", nil, true, 0, []string{"go1."}},
		"an unknown command": {everyService, "sing", nil, true, 1,
			[]string{`unknown command "sing"`, "serve "}},
		"a migration to nowhere": {everyService, "migrate sideways", nil, true, 1,
			[]string{"must be followed by up, down or status"}},
		"words after serve": {everyService, "serve --port=1", nil, true, 1,
			[]string{"serve takes no arguments"}},
		"no configuration": {everyService, "serve", nil, true, 1,
			configErrors("PURSER_DATABASE_URL", "PURSER_REDIS_URL", "PURSER_ISSUER", "PURSER_GRPC_TLS_CERT")},
		"the configuration": {everyService, "config", nil, false, 0,
			[]string{"PURSER_DATABASE_URL=postgres://u:***@127.0.0.1:1/d",
				"PURSER_REDIS_URL=redis://:***@127.0.0.1:1/0",
				"PURSER_GRPC_PLAINTEXT=true",
				"PURSER_SHUTDOWN_DRAIN=20s"}},
		"a health check without a server": {everyService, "healthcheck",
			map[string]string{"PURSER_GRPC_ADDR": "127.0.0.1:1"}, false, 1, []string{"connection refused"}},
		"a migration of an unavailable database": {everyService, "migrate status", nil, false, 1,
			[]string{"open database", "connection refused"}},
		"secrets in files": {everyService, "config",
			map[string]string{"PURSER_DATABASE_URL": "",
				"PURSER_DATABASE_URL_FILE": writeFile("url", "postgres://u:"+secretText+"@db/d\r\n")}, false, 0,
			[]string{"PURSER_DATABASE_URL=postgres://u:***@db/d"}},
		"a secret in both": {everyService, "config",
			map[string]string{"PURSER_REDIS_URL_FILE": writeFile("redis", "redis://x")}, false, 1,
			configErrors("PURSER_REDIS_URL and PURSER_REDIS_URL_FILE are both set")},
		"an empty secret file": {[]string{"portfolio"}, "config",
			map[string]string{"PURSER_SERVICE_SECRET": "", "PURSER_SERVICE_SECRET_FILE": writeFile("empty", "\n")},
			false, 1, configErrors("PURSER_SERVICE_SECRET_FILE: the file ", "is empty")},
		"a missing secret file": {[]string{"auth"}, "config",
			map[string]string{"PURSER_KEK": "", "PURSER_KEK_FILE": "/absent"}, false, 1,
			configErrors("PURSER_KEK_FILE: open /absent")},
		"a key with a newline": {[]string{"auth"}, "config",
			map[string]string{"PURSER_KEK": "",
				"PURSER_KEK_FILE": writeFile("kek", validSettings()["PURSER_KEK"]+"\n")},
			false, 0, []string{"PURSER_KEK=***"}},
		"malformed URLs, without a part": {everyService, "config",
			map[string]string{"PURSER_DATABASE_URL": "postgres://u:" + secretText + "@h:bad/d",
				"PURSER_REDIS_URL": "http://:" + secretText + "@h"}, false, 1,
			configErrors("PURSER_DATABASE_URL: ", "PURSER_REDIS_URL: ")},
		"URLs that would be read by half": {everyService, "config",
			map[string]string{
				"PURSER_DATABASE_URL": "postgres://u:" + secretText + "@a,b/d?sslmode=requier&colour=red",
				"PURSER_REDIS_URL":    "redis://:" + secretText + "@a:1,b:2/3?cluster=true&pool_size=9"}, false, 1,
			configErrors("sslmode must be one of disable,", `there is no parameter "colour"`,
				"the Redis URL has a list of hosts; it must name one")},
		"a certificate that is not there": {everyService, "serve",
			map[string]string{"PURSER_DATABASE_URL": "postgres://u:" + secretText +
				"@a/d?sslmode=verify-full&sslrootcert=/absent.pem"}, false, 1,
			configErrors("PURSER_DATABASE_URL: postgres: the database URL: sslrootcert: open /absent.pem")},
		"a secret where another belongs": {[]string{"auth"}, "config",
			map[string]string{"PURSER_KEK": secretText, "PURSER_OAUTH_PROVIDERS": `[{"client_secret":"` + secretText},
			false, 1, configErrors("PURSER_KEK must be 32 bytes", "PURSER_OAUTH_PROVIDERS")},
		"numbers out of range": {everyService, "config",
			map[string]string{"PURSER_DATABASE_MAX_CONNS": "0", "PURSER_DATABASE_LOCK_TIMEOUT": "-1s",
				"PURSER_SHUTDOWN_DRAIN": "-1s", "PURSER_GRPC_BURST": "0", "PURSER_GRPC_MAX_TIMEOUT": "1ms"}, false, 1,
			configErrors("PURSER_DATABASE_MAX_CONNS must be", "PURSER_DATABASE_LOCK_TIMEOUT must be",
				"PURSER_SHUTDOWN_DRAIN above", "PURSER_GRPC_BURST must be", "PURSER_GRPC_MAX_TIMEOUT must be")},
		"values that are no numbers": {everyService, "config",
			map[string]string{"PURSER_DATABASE_MAX_CONNS": "many", "PURSER_SHUTDOWN_DRAIN": "20",
				"PURSER_LOG_LEVEL": "LOUD"}, false, 1,
			configErrors("PURSER_DATABASE_MAX_CONNS: ", "PURSER_SHUTDOWN_DRAIN: ", "PURSER_LOG_LEVEL: ")},
		"addresses without a port": {everyService, "config",
			map[string]string{"PURSER_GRPC_ADDR": "localhost", "PURSER_GRPC_HEALTH_ADDR": "x",
				"PURSER_ADMIN_ADDR": "127.0.0.1"}, false, 1,
			configErrors("PURSER_GRPC_ADDR must", "PURSER_GRPC_HEALTH_ADDR must", "PURSER_ADMIN_ADDR must")},
		"an address without a port": {[]string{"wallet", "portfolio"}, "serve",
			map[string]string{"PURSER_AUTH_ADDR": "auth"}, false, 1, configErrors("PURSER_AUTH_ADDR must")},
		"an invalid port of auth": {[]string{"auth"}, "config",
			map[string]string{"PURSER_HTTP_ADDR": "x", "PURSER_KEYS_ROTATION_CRON": "often"}, false, 1,
			configErrors("PURSER_HTTP_ADDR must", "PURSER_KEYS_ROTATION_CRON: ")},
		"missing TLS files": {everyService, "serve",
			map[string]string{"PURSER_GRPC_PLAINTEXT": "", "PURSER_GRPC_TLS_CERT": "/absent",
				"PURSER_GRPC_TLS_KEY": "/absent", "PURSER_ISSUER": "auth"}, false, 1,
			configErrors("PURSER_ISSUER must be", "PURSER_GRPC_TLS_CERT", "/absent")},
		"a missing CA file": {[]string{"wallet", "portfolio"}, "serve",
			map[string]string{"PURSER_AUTH_PLAINTEXT": "", "PURSER_AUTH_TLS_CA": "/absent"}, false, 1,
			configErrors("PURSER_AUTH_TLS_CA: ", "/absent")},
		"a migration needs no TLS files": {everyService, "migrate status",
			map[string]string{"PURSER_GRPC_PLAINTEXT": "", "PURSER_GRPC_TLS_CERT": "/absent",
				"PURSER_GRPC_TLS_KEY": "/absent"}, false, 1, []string{"open database"}},
		"a missing token list": {[]string{"wallet"}, "serve",
			map[string]string{"PURSER_TOKEN_LIST": "/absent", "PURSER_SYNC_CRON": "often"}, false, 1,
			configErrors("PURSER_TOKEN_LIST: ", "PURSER_SYNC_CRON: ")},
		"an invalid schedule": {[]string{"portfolio"}, "config",
			map[string]string{"PURSER_SNAPSHOT_CRON": "often"}, false, 1, configErrors("PURSER_SNAPSHOT_CRON: ")},
	} {
		vars := validSettings()
		if tt.bare {
			vars = map[string]string{}
		}
		for v, value := range tt.set {
			if vars[v] = value; value == "" {
				delete(vars, v)
			}
		}
		for _, service := range tt.services {
			t.Run(fmt.Sprintf("%s of %s", name, service), func(t *testing.T) {
				printed, code := program(t, service, vars, strings.Fields(tt.args)...)
				if code != tt.code {
					t.Errorf("exit code %d, want %d:\n%s", code, tt.code, printed)
				}
				for _, want := range tt.want {
					if !strings.Contains(printed, want) {
						t.Errorf("no %q in\n%s", want, printed)
					}
				}
				if strings.Contains(printed, secretText) || strings.Contains(printed, validSettings()["PURSER_KEK"]) {
					t.Errorf("a secret is printed:\n%s", printed)
				}
			})
		}
	}
}
