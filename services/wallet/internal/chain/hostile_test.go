package chain_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

func TestANodeThatRedirectsIsRefusedAndTheTargetIsNotAsked(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			target, n := newNode(t), newNode(t)
			n.raw = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, status) }
			_, err := newReader(t, 10, n.URL).read(t, tokens(1))
			unavailable(t, err)
			if n.asked() == 0 || target.asked() != 0 {
				t.Errorf("the node was asked %d times, the target %d", n.asked(), target.asked())
			}
		})
	}
}

// Behind one URL another node may answer after a failure.
func TestAfterAFailureTheChainIDIsCheckedAgain(t *testing.T) {
	n := newNode(t)
	r := newReader(t, 10, n.URL)
	if _, err := r.read(t, tokens(1)); err != nil {
		t.Fatal(err)
	}
	n.raw = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "restarting", http.StatusBadGateway) }
	_, err := r.read(t, tokens(1))
	unavailable(t, err)
	n.raw, n.id = nil, "0x89"
	got, err := r.read(t, tokens(1))
	if err == nil {
		t.Errorf("a node of another chain was believed: %s", amounts(got))
	}
	unavailable(t, err)
	n.id = "0x1"
	if got, err := r.read(t, tokens(1)); err != nil || amounts(got) != "1" {
		t.Errorf("a node that is of the chain again: %s, %v", amounts(got), err)
	}
}

// To halve what is asked of a node that is asked too often asks it more often.
func TestANodeThatIsAskedTooOftenIsNotAskedInSmallerChunks(t *testing.T) {
	for _, tc := range []struct {
		code   int
		halved bool
	}{
		{-32000, true}, // the control
		{-32005, false},
		{429, false},
		{-32007, false},
		{-32016, false},
		{-32029, false},
		{-32097, false},
	} {
		t.Run(fmt.Sprint("code ", tc.code), func(t *testing.T) {
			n := newNode(t)
			n.answer = func([]common.Address) any { return fault{tc.code, "no"} }
			_, err := newReader(t, 8, n.URL).read(t, tokens(8))
			unavailable(t, err)
			if halved := len(n.chunks) > 1; halved != tc.halved {
				t.Errorf("asked in chunks %v", n.chunks)
			}
		})
	}
}
