package chain_test

import (
	"encoding/json"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// pastBlock is a block of the chain of withPast.
func pastBlock(number uint64) block.Block {
	return block.Block{Number: number, Hash: numbered(number, hourOf(number))["hash"].(common.Hash),
		Time: hourOf(number)}
}

func callsOf(n int) (calls []defi.Call) {
	for i := range n {
		calls = append(calls, defi.Call{To: common.Address{byte(i + 1)}, Data: []byte{1, 2, 3, 4}})
	}
	return calls
}

// numbersOf are answers of one word each, "-" without one.
func numbersOf(answers []defi.Answer) string {
	text := ""
	for _, a := range answers {
		if len(a) == 0 {
			text += "- "
		} else {
			text += new(big.Int).SetBytes(a).String() + " "
		}
	}
	return text
}

func TestCallsAreOfTheBlockThatIsNamed(t *testing.T) {
	r := newReader(t, 3, trueNode(t).URL)
	answers, err := r.CallAt(t.Context(), 1, pastBlock(60), callsOf(8))
	if got := numbersOf(answers); err != nil || got != "1060 2060 3060 4060 5060 6060 7060 8060 " {
		t.Errorf("answered %s, %v", got, err)
	}
	heavy := callsOf(3)
	heavy[1].Weight = 50 // more than a chunk
	if answers, err = r.CallAt(t.Context(), 1, pastBlock(60), heavy); err != nil ||
		numbersOf(answers) != "1060 2060 3060 " {
		t.Errorf("answered %s, %v", numbersOf(answers), err)
	}
	_, err = r.CallAt(t.Context(), 2, pastBlock(60), callsOf(1))
	if err == nil {
		t.Error("a chain without a node is no error")
	}
}

// A call that failed beside others is made again alone, since another one may have eaten its gas.
func TestACallThatFailedBesideOthersIsMadeAgain(t *testing.T) {
	n := withPast(newNode(t))
	n.plain = func(contract common.Address, _ json.RawMessage) any {
		switch {
		case contract == common.HexToAddress(chain.Multicall3):
			return n.results(t, make([]chain.Result, 3)) // all have failed
		case contract[0] == 2:
			return fault{3, "execution reverted"}
		}
		return hexutil.Bytes{contract[0]}
	}
	answers, err := newReader(t, 10, n.URL).CallAt(t.Context(), 1, pastBlock(60), callsOf(3))
	if got := numbersOf(answers); err != nil || got != "1 - 3 " {
		t.Errorf("answered %s, %v", got, err)
	}
}

// Where two nodes have to agree, what one alone says has no answer. The control believes it.
func TestCallsNeedTheQuorumToo(t *testing.T) {
	liar := func() string {
		n := trueNode(t)
		n.atBlock = func(h common.Hash, targets []common.Address) any { return n.balances(t, h, targets, 1) }
		return n.URL
	}
	for _, tc := range []struct {
		quorum int
		urls   []string
		want   string
	}{
		{1, []string{liar()}, "1061 2061 "},
		{2, []string{liar(), trueNode(t).URL, trueNode(t).URL}, "1060 2060 "},
		{2, []string{liar(), trueNode(t).URL}, "- - "},
	} {
		r := newQuorumReader(t, tc.quorum, tc.urls...)
		answers, err := r.CallAt(t.Context(), 1, pastBlock(60), callsOf(2))
		if got := numbersOf(answers); err != nil || got != tc.want {
			t.Errorf("%d of %d: answered %s, %v; want %s", tc.quorum, len(tc.urls), got, err, tc.want)
		}
	}
}
