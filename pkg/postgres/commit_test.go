package postgres_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// A server that is told to stop ends a connection with a FATAL error, also when it has committed and the caller has
// not yet read so.
func TestACommitIsUnknownWhenTheServerStopsAtItsEnd(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	for name, tc := range map[string]struct {
		severity, code string
		unknown        bool
	}{
		"it stops":             {"FATAL", "57P01", true},
		"it crashes":           {"PANIC", "XX000", true},
		"not to be run again":  {"FATAL", "40001", true},
		"it refuses to commit": {"ERROR", "23505", false},
	} {
		t.Run(name, func(t *testing.T) {
			before := count(t, own.DB)
			db := open(t, postgres.Options{Name: "wallet", URL: afterCommit(t, own.URL, &pgproto3.ErrorResponse{
				Severity: tc.severity, SeverityUnlocalized: tc.severity, Code: tc.code, Message: "at the commit"})})
			runs := 0
			err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
				runs++
				return tx.Exec(`INSERT INTO accounts (id) VALUES (?)`, before+int64(runs)).Error
			})
			if errors.Is(err, postgres.ErrCommitUnknown) != tc.unknown || err == nil {
				t.Errorf("the error is %v", err)
			}
			if added := count(t, own.DB) - before; runs != 1 || added != 1 {
				t.Errorf("the transaction ran %d times and %d rows are there", runs, added)
			}
		})
	}
}

// A transaction is rolled back as soon as its context ends, also when fn is done and hasn't returned yet: then the
// error is that of the context, and not that of a commit without a transaction.
func TestACommitAfterTheContextHasEndedSaysSo(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	before := count(t, own.DB)
	ctx, cancel := context.WithCancel(t.Context())
	err := postgres.InTx(ctx, own.DB, func(tx *gorm.DB) error {
		if err := tx.Exec("INSERT INTO accounts (id) VALUES (?)", before+1).Error; err != nil {
			return err
		}
		cancel()
		testkit.Eventually(t, time.Minute, func() bool { // until it is rolled back
			_, err := tx.Statement.ConnPool.ExecContext(t.Context(), "SELECT 1")
			return errors.Is(err, sql.ErrTxDone)
		})
		return nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("the error is %v", err)
	}
	if n := count(t, own.DB); n != before {
		t.Errorf("%d rows were added", n-before)
	}
}

// afterCommit returns the URL of a proxy that adds an answer to that of a COMMIT, and ends the connection unless it is
// an ERROR.
func afterCommit(t *testing.T, serverURL string, answer *pgproto3.ErrorResponse) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	server := u.Host
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { passUntilCommit(t.Context(), client, server, answer) })
		}
	})
	u.Host = l.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable") // so that every answer is a message
	u.RawQuery = query.Encode()
	return u.String()
}

func passUntilCommit(ctx context.Context, client net.Conn, serverAddr string, answer *pgproto3.ErrorResponse) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", serverAddr)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	for {
		head := make([]byte, 5) // the kind of the message, and its length without the kind
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
		copy(message, head)
		if _, err := io.ReadFull(server, message[5:]); err != nil {
			return
		}
		if message[0] == 'C' && strings.HasPrefix(string(message[5:]), "COMMIT") {
			last, _ := answer.Encode(message)
			_, _ = client.Write(last)
			if answer.Severity != "ERROR" {
				return
			}
			continue
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}
