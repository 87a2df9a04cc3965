package app

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/internal/terminal"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// counted takes every row that keeps the rules.
type counted struct{ rows int }

func (c *counted) ByID(context.Context, uuid.UUID, uuid.UUID) (wallet.Wallet, error) {
	return wallet.Wallet{Account: caip.Account{Chain: 1}}, nil
}

func (c *counted) ImportBalances(_ context.Context, _, _ uuid.UUID, rows []importing.Balance,
	failures []importing.Failure, _ *requests.Request) (importing.Result, error) {
	c.rows += len(rows)
	return importing.Result{Stored: len(rows), Failures: failures}, nil
}

func (c *counted) ImportTransactions(_ context.Context, _, _ uuid.UUID, rows []importing.Transaction,
	failures []importing.Failure, _ *requests.Request) (importing.Result, error) {
	c.rows += len(rows)
	return importing.Result{Stored: len(rows), Failures: failures}, nil
}

// Every row of a file is stored or told of, whatever is in it.
func FuzzImportedFile(f *testing.F) {
	const id = "01a22127-d0b1-7c3e-9a51-0f7c2d3b8e44"
	f.Add([]byte("wallet_id,token_id,amount,time\n" + id + ",eip155:1/slip44:60,5,2024-03-01T12:00:00Z\n"))
	f.Add([]byte("\xef\xbb\xbfTime, wallet_id ,token_id,amount\r\n\"a\nb\"," + id + ",x,7\r\n\"\n"))
	f.Add([]byte("wallet_id,row_id,token_id,direction,amount,time\n" + id + ",r1,eip155:1/slip44:60,IN,5," +
		"2024-03-01T12:00:00Z\n,,,,,\n,\n"))
	f.Add([]byte("wallet_id,wallet_id\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		stored, out := &counted{}, &bytes.Buffer{}
		i := &fileImport{imports: importing.NewService(stored, time.Now), name: "f.csv", out: &columns{out: out},
			ownerOf:  func(context.Context, uuid.UUID) (uuid.UUID, error) { return uuid.Max, nil },
			progress: terminal.NewProgress(io.Discard, "lines"), owners: map[uuid.UUID]uuid.UUID{},
			pending: map[uuid.UUID][]fileRow{}}
		if err := i.run(t.Context(), bytes.NewReader(text)); err != nil {
			return // the file as a whole is refused
		}
		if i.Stored != stored.rows || i.waiting != 0 {
			t.Errorf("%d rows stored, told of %d, %d wait", stored.rows, i.Stored, i.waiting)
		}
		if explained := strings.Count(out.String(), "f.csv:"); explained < i.failed {
			t.Errorf("%d rows failed, and %d lines tell why: %s", i.failed, explained, out)
		}
	})
}
