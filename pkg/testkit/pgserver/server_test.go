package pgserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

// ownerEnv makes the test binary the owner of the cluster in this folder
// until it is killed.
const ownerEnv = "PGSERVER_TEST_OWNER"

func TestMain(m *testing.M) {
	dir := os.Getenv(ownerEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := pgserver.Start(context.Background(), pgserver.Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {
	case <-s.Done():
	case <-time.After(5 * time.Minute): // the test kills it much sooner
	}
}

// folder is a data folder that an unprivileged user may enter, which the
// folders of t.TempDir aren't when root runs the tests.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func start(t *testing.T, o pgserver.Options) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query(t *testing.T, url, sql string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer c.Close(context.Background())
	var got string
	err = c.QueryRow(ctx, sql).Scan(&got)
	return got, err
}

func TestADatabaseBelongsToItsRoleAndSurvivesAKillAndARestart(t *testing.T) {
	t.Parallel()
	s := start(t, pgserver.Options{Dir: folder(t), Durable: true})
	for range 2 { // both calls may be repeated
		if err := s.CreateRole(t.Context(), "wallet"); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateDatabase(t.Context(), "purser_wallet", "wallet"); err != nil {
			t.Fatal(err)
		}
	}
	url := s.RoleURL("purser_wallet", "wallet")
	if _, err := query(t, url, `WITH x AS (SELECT 1) SELECT current_user`); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if _, err := query(t, url, `SELECT 'up'`); err == nil {
		t.Fatal("a killed server answered")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := query(t, url, `SELECT current_user::text`); got != "wallet" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if err := s.CreateRole(t.Context(), "auth"); err != nil {
		t.Fatal(err)
	}
	if _, err := query(t, s.RoleURL("purser_wallet", "auth"), `SELECT 'in'`); err == nil {
		t.Fatal("another service's role may connect")
	}
}

func TestTheServerAsksForThePasswordAndIsNotRoot(t *testing.T) {
	t.Parallel()
	s := start(t, pgserver.Options{})
	bare := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port())
	if _, err := query(t, bare, `SELECT 'in'`); err == nil {
		t.Fatal("no password was asked for")
	}
	if got, err := query(t, s.URL("postgres"),
		`SELECT pg_encoding_to_char(encoding)::text FROM pg_database LIMIT 1`); got != "UTF8" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAPausedServerDoesNotAnswerUntilResumed(t *testing.T) {
	t.Parallel()
	s := start(t, pgserver.Options{})
	c, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	s.Pause()
	answer := make(chan error, 1)
	go func() { _, err := c.Exec(context.Background(), "SELECT 1"); answer <- err }()
	select {
	case err := <-answer:
		t.Fatalf("a paused backend answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.Resume()
	if err := testkit.Receive(t, answer, time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestABusyPortIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = pgserver.Start(t.Context(), pgserver.Options{Port: l.Addr().(*net.TCPAddr).Port})
	if !errors.Is(err, pgserver.ErrPortBusy) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatal(err)
	}
}

func TestASecondOwnerOfAFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	start(t, pgserver.Options{Dir: dir})
	_, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir})
	if !errors.Is(err, pgserver.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatal(err)
	}
}

func TestDataOfAnotherMajorVersionIsExplained(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, pgserver.Options{Dir: dir})
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/data/PG_VERSION", []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir})
	if !errors.Is(err, pgserver.ErrVersion) || !strings.Contains(err.Error(), "version 9") {
		t.Fatal(err)
	}
}

func TestAMissingServerSaysWhatToInstall(t *testing.T) {
	t.Setenv(pgserver.BinEnv, "/nowhere")
	_, err := pgserver.Start(t.Context(), pgserver.Options{})
	if !errors.Is(err, pgserver.ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Fatal(err)
	}
}

func TestStopRemovesATemporaryFolder(t *testing.T) {
	tmp := filepath.Dir(folder(t))
	t.Setenv("TMPDIR", tmp)
	s := start(t, pgserver.Options{})
	s.Kill()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(tmp + "/*"); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestAServerEndsWithItsKilledOwner(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerEnv+"="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("owner: %s", line)
	}
	pid := postmaster(t, dir)
	_ = owner.Process.Kill()
	_ = owner.Wait()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; <-tick.C {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); strings.Contains(string(b), ") Z ") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server outlived its owner")
		}
	}
	start(t, pgserver.Options{Dir: dir})
}

func postmaster(t *testing.T, dir string) (pid int) {
	t.Helper()
	b, err := os.ReadFile(dir + "/data/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestAnOrphanThatStillRunsIsStoppedAndItsDataUsed(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, pgserver.Options{Dir: dir})
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A server that nobody owns: started past the package.
	_, bin, _ := strings.Cut(strings.TrimSuffix(s.Version(), ")"), "(")
	orphan := exec.Command(bin+"/postgres", "-D", dir+"/data", "-c", "listen_addresses=", "-c",
		"unix_socket_directories="+dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		st := info.Sys().(*syscall.Stat_t)
		orphan.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
	}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = orphan.Wait(); close(ended) }()
	t.Cleanup(func() { _ = orphan.Process.Kill(); <-ended })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		if b, _ := os.ReadFile(dir + "/data/postmaster.pid"); strings.Contains(string(b), "ready") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there is no orphan to test with")
		}
	}
	s = start(t, pgserver.Options{Dir: dir})
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the orphan still runs")
	}
	if got, err := query(t, s.URL("postgres"), `SELECT 'up'`); got != "up" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAStalePidFileWithAnotherProgramsPidIsIgnored(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, pgserver.Options{Dir: dir})
	b, err := os.ReadFile(dir + "/data/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n")
	stale := fmt.Sprintf("%d\n%s", os.Getppid(), rest)
	if err := os.WriteFile(dir+"/data/postmaster.pid", []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, pgserver.Options{Dir: dir})
}
