package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// hangingLogs passes calls on to a node as one of chain 2, but for those for events: they are not answered, and noted
// in asked.
func hangingLogs(t *testing.T, n servicetest.Node, asked chan<- struct{}) (url string, end func()) {
	t.Helper()
	ended, end := context.WithCancel(context.Background())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var call struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.Unmarshal(body, &call) // a batch has neither
		switch call.Method {
		case "eth_chainId":
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":"0x2"}`, call.ID)
			return
		case "eth_getLogs":
			select {
			case asked <- struct{}{}:
			default:
			}
			select {
			case <-r.Context().Done():
			case <-ended.Done():
			}
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, string(n), bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(func() { end(); s.Close() })
	return s.URL, end
}

// The node of chain 2 answers no question for events. Chain 1's transactions are found meanwhile, by one tick after
// the other.
func TestAChainWhoseRealNodeHangsDelaysNoOther(t *testing.T) {
	n := servicetest.StartNode(t, "anvil")
	n.Call(t, new(any), "anvil_mine", hexutil.EncodeUint64(2000))
	asked := make(chan struct{}, 1)
	hanging, end := hangingLogs(t, n, asked)
	s := startOnNodes(t, []string{string(n) + ",2=" + hanging})
	t.Cleanup(end) // before the service stops, which lets runs end
	ctx := s.user(t)
	one, two := s.create(ctx, t, "eip155:1:"+receiver).GetId(), s.create(ctx, t, "eip155:2:"+receiver).GetId()
	admin := s.issuer.As(t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
	want := []string{}
	for i := range uint64(3) {
		n.Send(t, servicetest.NodeHolder, receiver, nil, i+1)
		want = append(want, fmt.Sprintf("%d TRANSFER", i+1))
		if got := s.mustSync(ctx, t, one); got.GetError() != "" {
			t.Fatal(got)
		}
		if i == 0 {
			s.mustSync(ctx, t, two)
		}
		if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "find_transactions"}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-asked
		}
		testkit.Eventually(t, time.Minute, func() bool { return slices.Equal(s.movementsOf(ctx, t, one), want) })
	}
	runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "find_transactions"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs.GetRuns() {
		if r.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_RUNNING && r.GetShard() == 1 && r.GetAttempt() == 1 {
			return
		}
	}
	t.Errorf("the hanging chain's first run is not under way any more, so nothing was proven: %v", runs.GetRuns())
}

// movementsOf are the amounts of a wallet's movements of the native coin, oldest first.
func (s service) movementsOf(ctx context.Context, t *testing.T, id string) (out []string) {
	t.Helper()
	resp, err := s.moves.ListTransactions(ctx, &walletv1.ListTransactionsRequest{WalletId: id, PageSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range slices.Backward(resp.GetTransactions()) {
		out = append(out, m.GetAmount()+" "+m.GetKind().String()[len("TRANSACTION_KIND_"):])
	}
	return out
}
