package postgres_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// pooler runs PgBouncer before the server of a database, in this pool mode, and returns the database's URL through
// it. With ignore it drops the settings of a connection that it doesn't know.
func pooler(t *testing.T, direct, mode string, ignore bool) string {
	t.Helper()
	program := "/usr/sbin/pgbouncer"
	if found, err := exec.LookPath("pgbouncer"); err == nil {
		program = found
	} else if _, err := os.Stat(program); err != nil {
		t.Skip("PgBouncer isn't installed: `apt-get install pgbouncer` to test behind it")
	}
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := lis.Addr().(*net.TCPAddr).Port
	_ = lis.Close()
	// PgBouncer refuses root, so that another user has to read its folder.
	dir, err := os.MkdirTemp("", "purser-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	password, _ := u.User.Password()
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s/users
pool_mode = %s
`, u.Port(), port, dir, mode)
	if ignore {
		settings += "ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout\n"
	}
	for name, text := range map[string]string{"pgbouncer.ini": settings,
		"users": fmt.Sprintf("%q %q\n", u.User.Username(), password)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(dir, "pgbouncer.ini")}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...)
	}
	log := &testkit.LogBuffer{}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	testkit.Eventually(t, 20*time.Second, func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	if t.Failed() {
		t.Log(log)
	}
	return u.String()
}

func TestAPoolerWithoutItsSettingIsNamedAtTheStart(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	for name, tc := range map[string]struct {
		mode   string
		ignore bool
		want   string // of the error; "" for none
	}{
		"one that refuses the settings of a connection": {"transaction", false, "refuses the settings"},
		"one in transaction mode":                       {"transaction", true, "gives a connection to others"},
		"one in session mode that drops the settings":   {"session", true, "drops the settings"},
	} {
		t.Run(name, func(t *testing.T) {
			through := pooler(t, own.URL, tc.mode, tc.ignore)
			o := postgres.Options{URL: through, Lazy: true}
			plain := open(t, o)
			err := plain.Accepts(t.Context())
			wantReason(t, err, "DATABASE_POOLER")
			for what, err := range map[string]error{"the start": err,
				"migrate": postgres.Migrate(t.Context(), plain, accounts())} {
				if err == nil || !strings.Contains(err.Error(), tc.want) ||
					!strings.Contains(err.Error(), "PURSER_DATABASE_PGBOUNCER=true") {
					t.Errorf("%s: %v", what, err)
				}
			}
			o.PgBouncer = true
			if err := open(t, o).Accepts(t.Context()); err != nil {
				t.Errorf("with its setting: %v", err)
			}
			if _, err := postgres.CheckSchema(t.Context(), open(t, o), accounts()); err != nil {
				t.Errorf("with its setting the schema: %v", err)
			}
		})
	}
	if err := own.Accepts(t.Context()); err != nil {
		t.Errorf("without a pooler: %v", err)
	}
}

// The control: what is refused at the start fails in use otherwise.
func TestInTransactionModePreparedStatementsAreMissing(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	through := pooler(t, own.URL, "transaction", true)
	read := func(db *postgres.DB) error {
		return db.Gorm(t.Context()).Exec(`SELECT id FROM accounts WHERE id = ?`, 1).Error
	}
	fails := func(pgBouncer bool) error {
		first := open(t, postgres.Options{URL: through, Lazy: true, PgBouncer: pgBouncer, MaxOpenConns: 1})
		second := open(t, postgres.Options{URL: through, Lazy: true, PgBouncer: pgBouncer, MaxOpenConns: 1})
		for range 5 {
			for _, db := range []*postgres.DB{first, second} {
				if err := read(db); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := fails(false); err == nil {
		t.Error("nothing fails without the setting, so there is no reason to refuse it")
	}
	if err := fails(true); err != nil {
		t.Errorf("with the setting: %v", err)
	}
}
