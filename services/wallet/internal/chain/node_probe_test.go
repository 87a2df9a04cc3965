package chain_test

import (
	"errors"
	"testing"
	"time"

	"github.com/purserhq/purser/services/internal/dependency"
)

// GetStatus and ListChains ask a node with one question, and say the same of it.
func TestANodeIsAskedOnceForTheStatusAndTheListOfChains(t *testing.T) {
	n := newNode(t)
	r := newReader(t, 10, n.URL)
	watch := r.Watch(1, 0)
	if err := watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	once := n.asked()
	all, err := r.Status(t.Context())
	if err != nil || !all[0].Nodes[0].Reachable || all[0].Nodes[0].Head.Number != 100 {
		t.Error(all, err)
	}
	if n.asked() != once {
		t.Errorf("the list asked the node again: %d calls, %d before", n.asked(), once)
	}
	r.now = r.now.Add(10 * time.Second)
	if _, err := r.Status(t.Context()); err != nil || n.asked() == once {
		t.Error("the node is not asked after ten seconds", err)
	}
	once = n.asked()
	if err := watch(t.Context()); err != nil || n.asked() != once {
		t.Error("the status asked the node again", err)
	}
	n.head = blockJSON(100, noon().Add(-2*time.Hour))
	r.now = r.now.Add(10 * time.Second)
	var failed *dependency.Error
	if err := watch(t.Context()); !errors.As(err, &failed) || failed.Reason != "HEAD_TOO_OLD" {
		t.Error("of a node that stands still:", err)
	}
	n.id = "0x5"
	r.now = r.now.Add(10 * time.Second)
	if err := watch(t.Context()); !errors.As(err, &failed) || failed.Reason != "WRONG_CHAIN" {
		t.Error("of a node of another chain:", err)
	}
	if all, err := r.Status(t.Context()); err != nil || all[0].Nodes[0].Reason != "WRONG_CHAIN" {
		t.Error(all, err)
	}
}
