package testkit

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// PgBouncer runs PgBouncer before the server of a database until the test ends, in a pool mode ("transaction",
// "session") and with further lines of its settings, and returns the database's URL through it. With ignore it drops
// the settings of a connection that it doesn't know. It skips the test where PgBouncer is not installed.
func PgBouncer(t *testing.T, direct, mode string, ignore bool, more ...string) string {
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
	var lc net.ListenConfig
	lis, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
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
	for _, line := range more {
		settings += line + "\n"
	}
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
	log := &LogBuffer{}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...) // until the cleanup
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	Eventually(t, 20*time.Second, func() bool {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", u.Host)
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
