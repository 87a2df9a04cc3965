package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/postgres"
)

func TestAURLIsReadWhollyOrRefused(t *testing.T) {
	for _, fine := range []string{
		"postgres://u:p@db:5432/d", "postgresql://u@db/d?sslmode=verify-full&sslrootcert=/absent",
		"postgres://u@a:1,b:2/d?target_session_attrs=read-write", "postgres://u@[::1]:5432/d?search_path=x",
		"postgres:///d?host=/run/postgresql&user=u", "postgres://u@a:1,b:2/d",
	} {
		if err := postgres.CheckURL(fine); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	const base = "postgres://u:hunter2@db:5432/d?"
	for given, want := range map[string]string{
		base + "sslmode=requier":                                      "sslmode must be one of disable, allow,",
		base + "sslmode=require&sslmode=disable":                      "sslmode is given 2 times",
		base + "ssl_mode=require":                                     `there is no parameter "ssl_mode"`,
		"postgres://u:12?hunter2@db/d":                                "escape ? and & in a password",
		base + "target_session_attrs=writable":                        "target_session_attrs must be one of any,",
		base + "pool_max_conns=5":                                     "pool_max_conns has no effect: use PURSER_",
		base + "statement_timeout=1":                                  "use PURSER_DATABASE_STATEMENT_TIMEOUT",
		base + "default_query_exec_mode=exec":                         "PURSER_DATABASE_PGBOUNCER decides",
		"postgres://u:hunter2@a,,b/d?target_session_attrs=read-write": "a host of the list is empty",
		"postgresx://u:hunter2@db/d":                                  "malformed",
		"postgres://u:hunter2@db:port/d":                              "malformed",
		"host=db password=hunter2":                                    "malformed",
	} {
		err := postgres.CheckURL(given)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %s", given, err, want)
		}
	}
}

func TestAFileOfAURLIsNamedWhenItIsNoUse(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/absent.pem": "sslrootcert: open /absent.pem: no such file",
		empty: "has no certificate or key in PEM"} {
		c := postgres.Config{URL: config.URL("postgres://u:hunter2@db/d?sslmode=verify-full&sslrootcert=" + path)}
		err := c.Check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") ||
			!strings.HasPrefix(err.Error(), "PURSER_DATABASE_URL: ") {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
