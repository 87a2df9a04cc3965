package transaction_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// slowScans is a chain without movements, and a store of one wallet's scan whose writes take their time.
type slowScans struct {
	takes time.Duration
	scan  transaction.Scan
}

func (s *slowScans) DueScans(context.Context, uint64, int) ([]transaction.Scan, error) {
	if s.scan.Scanned >= s.scan.Synced {
		return nil, nil
	}
	return []transaction.Scan{s.scan}, nil
}

func (s *slowScans) SaveStep(ctx context.Context, step transaction.Step) (int, error) {
	if err := deadline.Pause(ctx, s.takes); err != nil {
		return 0, err
	}
	s.scan.Scanned = step.Through.Number
	return 1, nil
}

func (s *slowScans) Checkpoints(context.Context, uint64) ([]block.Block, error)    { return nil, nil }
func (s *slowScans) Rollback(context.Context, uint64, block.Replaced) (int, error) { return 0, nil }
func (s *slowScans) Chains() []uint64                                              { return []uint64{1} }
func (s *slowScans) KnownTokens(context.Context, []string) (map[string]token.Token, error) {
	return map[string]token.Token{}, nil
}

func (s *slowScans) Movements(_ context.Context, _ uint64, _ []common.Address,
	blocks transaction.Range) (transaction.Reading, error) {
	return transaction.Reading{Through: block.Block{Number: blocks.To}}, nil
}

func (s *slowScans) Metadata(context.Context, uint64, []common.Address) ([]transaction.Metadata, error) {
	return nil, nil
}

func (s *slowScans) BlocksAt(context.Context, uint64, []uint64) ([]block.Block, error) {
	return nil, nil
}

func (s *slowScans) SureBlocksAt(context.Context, uint64, []uint64) ([]block.Block, error) {
	return nil, nil
}

// A scan that can't store its first step would ask the nodes for the same blocks for ever.
func TestASlowDatabaseStopsNoScan(t *testing.T) {
	for name, tc := range map[string]struct {
		takes  time.Duration
		stored bool
	}{
		"a minute":           {time.Minute, true},
		"within the grace":   {4*time.Minute + 20*time.Second, true},
		"longer than it can": {5 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowScans{takes: tc.takes, scan: transaction.Scan{Wallet: uuid.New(),
					Account: caip.Account{Chain: 1}, Synced: 1000}}
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
				defer cancel()
				err := transaction.NewScanner(s, s, nil, slog.New(slog.DiscardHandler)).Run(ctx, 0, 1)
				if (err == nil) != tc.stored || (s.scan.Scanned == 1000) != tc.stored {
					t.Errorf("scanned up to block %d: %v", s.scan.Scanned, err)
				}
			})
		})
	}
}
