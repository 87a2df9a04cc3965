package chainurl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/internal/chainurl"
)

func TestAChainHasItsNodesInTheirOrder(t *testing.T) {
	//nolint:gocritic // the spaces are what is tried
	for text, want := range map[string]string{
		"": "map[]",
		"1=https://a.example,1=https://b.example,137=https://c.example": "map[1:[https://a.example " +
			"https://b.example] 137:[https://c.example]]",
		" 1 = https://a.example , , 10=https://b.example,": "map[1:[https://a.example] " +
			"10:[https://b.example]]",
		"9223372036854775807=https://a.example/?k=v": "map[9223372036854775807:[https://a.example/?k=v]]",
	} {
		var n chainurl.Nodes
		if err := n.UnmarshalText([]byte(text)); err != nil || fmt.Sprint(map[uint64][]string(n)) != want {
			t.Errorf("%q: %v, %v", text, map[uint64][]string(n), err)
		}
	}
}

func TestAPairThatIsNoneIsRefusedWithoutBeingShown(t *testing.T) {
	for _, text := range []string{"https://hunter2.example", "0=https://hunter2.example", "-1=hunter2", "one=hunter2",
		"9223372036854775808=hunter2", "1=", "1= ,2=hunter2", "=hunter2", "1=https://a.example,hunter2"} {
		err := new(chainurl.Nodes).UnmarshalText([]byte(text))
		if err == nil || strings.Contains(err.Error(), "hunter2") ||
			!strings.Contains(err.Error(), "<chain id>=<value>") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNodesPrintWithoutTheirURLs(t *testing.T) {
	n := chainurl.Nodes{137: {"https://hunter2.example"}, 1: {"https://a.example/hunter2", "b"}}
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if got := fmt.Sprintf(verb, n); got != "1=(2 nodes),137=(1 nodes)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestANodeThatIsNoHTTPURLIsNamedWithoutBeingShown(t *testing.T) {
	n := chainurl.Nodes{137: {"https://a.example", "hunter2"}, 1: {"ws://hunter2.example", "http://b.example"}}
	want := "X: node 1 of chain 1 must be an http or https URL: only the wallet service reads nodes over WebSocket\n" +
		"X: node 2 of chain 137 must be an http or https URL"
	if err := n.Check("X"); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	want = "X: node 2 of chain 137 must be an http, https, ws or wss URL"
	if err := n.CheckWithSockets("X"); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if err := (chainurl.Nodes{1: {"http://b.example"}}).Check("X"); err != nil {
		t.Error(err)
	}
}

func TestAQuorumThatCannotBeReachedIsRefused(t *testing.T) {
	nodes := chainurl.Nodes{1: {"https://a.example/1", "wss://b.example"}, 10: {"https://a.example"},
		137: {"https://a.example/1", "https://a.example/2"}}
	for text, want := range map[string]string{
		"":         "",
		"1=2,10=1": "",
		"1=1,1=2":  "chain 1 stands there twice",
		"1=0":      `chain 1: "0" must be a number of nodes, at least 1`,
		"1=two":    `chain 1: "two" must be a number of nodes, at least 1`,
		"10=2":     "Q: 2 nodes of chain 10 have to agree, and N has 1 of it",
		"56=1":     "Q: 1 nodes of chain 56 have to agree, and N has 0 of it",
		"137=2":    "N: nodes 1 and 2 of chain 137 are on the same host, and Q needs those of different ones to agree",
	} {
		var q chainurl.Quorum
		err := q.UnmarshalText([]byte(text))
		if err == nil {
			err = q.Check("Q", "N", nodes)
		}
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
