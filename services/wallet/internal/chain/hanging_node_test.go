package chain_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

// A caller's few seconds are enough to find the node that answers, however the
// one before it hangs.
func TestANodeThatHangsLeavesTimeForTheNext(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"eth_chainId", "eth_getBlockByNumber", "eth_call"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			hangs, sound := withPast(newNode(t)), withPast(newNode(t))
			hang := make(chan struct{})
			t.Cleanup(func() { close(hang) })
			hangs.raw = func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), method) {
					<-hang
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				hangs.serve(w, r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			got, err := newReader(t, 10, hangs.URL, sound.URL).ReadAt(ctx, 1, []time.Time{hourOf(40)},
				[]common.Address{{}}, tokens(1))
			if err != nil || readingText(got[0]) != "40: 1" {
				t.Errorf("read %s, %v", readingText(got[0]), err)
			}
		})
	}
}

// Five nodes that hang, at whatever they are asked, leave time for the sixth within the four seconds of a call. The
// next call asks the one that answers first.
func TestNodesThatHangLeaveTimeForTheLast(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"eth_chainId", "eth_getBlockByNumber", "eth_call", "TCP"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var urls []string
			for range 5 {
				if method == "TCP" { // it takes connections and answers nothing
					l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = l.Close() })
					urls = append(urls, "http://"+l.Addr().String())
					continue
				}
				urls = append(urls, hangingAt(t, withPast(newNode(t)), method).URL)
			}
			r := newReader(t, 10, append(urls, withPast(newNode(t)).URL)...)
			for i, most := range []time.Duration{4 * time.Second, 500 * time.Millisecond} {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				begun := time.Now()
				got, err := r.ReadAt(ctx, 1, []time.Time{hourOf(40 + uint64(i))}, []common.Address{{}}, tokens(1))
				cancel()
				if took := time.Since(begun); err != nil || got[0].Amounts == nil || took > most {
					t.Errorf("read %q after %s, %v", readingText(got[0]), took, err)
				}
			}
		})
	}
}

// A node that hangs at batches, or is too slow for them, is read by single calls in the same call.
func TestANodeThatHangsAtBatchesIsReadBySingleCalls(t *testing.T) {
	t.Parallel()
	n := withPast(newNode(t))
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	n.batch = func(http.ResponseWriter, []rpcCall, []any) { <-hang }
	got, err := newReader(t, 10, n.URL).readAt(t, 1, hourOf(40), hourOf(41), hourOf(42))
	if err != nil || readingText(got[0]) != "40: 1 1" || readingText(got[2]) != "42: 1 1" {
		t.Errorf("read %v, %v", got, err)
	}
}

// A check of all nodes has a time, which those that hang use up. A node that was not asked has not failed.
func TestANodeThatACheckHasNoTimeForHasNotFailed(t *testing.T) {
	t.Parallel()
	hangs := newNode(t)
	hangs.raw = func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the caller goes
		<-r.Context().Done()
	}
	sound := newNode(t)
	r := newReader(t, 10, append(slices.Repeat([]string{hangs.URL}, 48), sound.URL)...)
	all, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nodes := all[0].Nodes
	if last := nodes[len(nodes)-1]; last.Reason != "" || !last.FailedAt.IsZero() {
		t.Errorf("it is said to fail: %+v", last)
	}
	if nodes[0].Reason != chainlist.Timeout || nodes[0].Reachable {
		t.Errorf("of one that hangs is said: %+v", nodes[0])
	}
}
