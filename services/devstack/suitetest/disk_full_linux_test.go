package suitetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/suite"
)

// smallDisk returns a folder on a file system of its own with this many bytes, which belongs to the owner of like. It
// skips the test where it may not mount one.
func smallDisk(t *testing.T, bytes int, like string) string {
	t.Helper()
	dir := testkit.Folder(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", bytes)); err != nil {
		t.Skipf("a full disk is not tried: mounting a small file system needs root and CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if like == "" {
		return dir
	}
	info, err := os.Stat(like)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("the owner of a folder is not known here")
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The disk of the database is full while the suite runs: writes are UNAVAILABLE with a reason, reads go on, and writes
// work again when there is room.
func TestWritesAreUnavailableWithAReasonWhileTheDiskIsFull(t *testing.T) {
	s := start(t)
	admin := func(database string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), s.Postgres.URL(database))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	db := admin("purser_wallet")
	disk := smallDisk(t, 4<<20, dataFolder(t, s)+"/postgres/data")
	exec := func(sql string) error { _, err := db.Exec(t.Context(), sql); return err }
	for _, sql := range []string{
		"CREATE TABLESPACE small LOCATION '" + disk + "'", "ALTER TABLE wallets SET TABLESPACE small",
		"CREATE TABLE filler (text text) TABLESPACE small",
	} {
		if err := exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // so that the server stops cleanly, before the disk is unmounted
		for _, sql := range []string{"DROP TABLE IF EXISTS filler", "ALTER TABLE wallets SET TABLESPACE pg_default",
			"DROP TABLESPACE small"} {
			if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
				t.Error(err)
			}
		}
	})
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	create := func(i int) error {
		return get(c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
			Account: fmt.Sprintf("eip155:%d:0x%040x", s.Chain.ChainID(), i+1)}))
	}
	if err := create(0); err != nil {
		t.Fatal(err)
	}
	for exec("INSERT INTO filler SELECT repeat('x', 7000) FROM generate_series(1, 8)") == nil { // until it is full
		continue
	}
	var err error
	full := 1
	for ; err == nil && full < 2000; full++ { // pages that wallets has already are filled first
		if err = create(full); errs.Is(err, errs.KindExhausted) { // the caller's limit
			err = nil
		}
	}
	wantError(t, err, codes.Unavailable, "DATABASE_DISK_FULL")
	if _, err := c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{}); err != nil {
		t.Errorf("reading: %v", err)
	}
	if err := exec("DROP TABLE filler"); err != nil {
		t.Fatal(err)
	}
	if err := create(full); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// A start on a full disk says so in one line, before anything is made. It says the same the second time, and works
// once there is room.
func TestAStartOnAFullDiskIsOneLineAndWorksOnceThereIsRoom(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 40<<20, "")
	var out strings.Builder
	o := withoutSyncJob(suite.Options{Dir: disk + "/data", History: history, Out: progress.New(io.Writer(&out))})
	for range 2 {
		_, err := suite.Start(t.Context(), o)
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "PURSER_DEV_DIR") ||
			!strings.Contains(err.Error(), "is full") || out.Len() > 0 {
			t.Errorf("%v, printed %q", err, &out)
		}
		made, err := os.ReadDir(o.Dir)
		if err != nil || len(made) != 1 || made[0].Name() != "suite.pid" {
			t.Errorf("made %v, %v", made, err)
		}
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", 600<<20)); err != nil {
		t.Fatal(err)
	}
	s, err := suite.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
