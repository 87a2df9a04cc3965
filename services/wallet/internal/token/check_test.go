package token_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// world is contracts by the first byte of their address, and the store.
type world struct {
	contracts map[byte]token.Contract
	asked     int
	failure   error
	stored    map[string]token.Token
}

func (w *world) Contracts(_ context.Context, _ uint64, tokens []token.Token) (out []token.Contract, err error) {
	for _, t := range tokens {
		w.asked++
		out = append(out, w.contracts[t.Contract[0]])
	}
	return out, w.failure
}

func (w *world) PutChecked(_ context.Context, tokens []token.Token) error {
	for _, t := range tokens {
		w.stored[t.ID] = t
	}
	return nil
}

func listed() []token.Token {
	return []token.Token{
		{ID: "native", Native: true, Decimals: 18, Verified: true},
		{ID: "right", Contract: common.Address{1}, Decimals: 6, Verified: true},
		{ID: "wrong", Contract: common.Address{2}, Decimals: 18, Verified: true},
		{ID: "silent", Contract: common.Address{3}, Decimals: 9, Verified: true},
		{ID: "none", Contract: common.Address{4}, Decimals: 18, Verified: true},
	}
}

func newWorld() (*world, *token.Checker, *bytes.Buffer) {
	w := &world{stored: map[string]token.Token{}, contracts: map[byte]token.Contract{
		1: {Decimals: 6, Says: true}, 2: {Decimals: 8, Says: true}, 3: {}, 4: {WithoutCode: true}}}
	log := &bytes.Buffer{}
	return w, token.NewChecker(w, w, slog.New(slog.NewTextHandler(log, nil))), log
}

func TestTheContractIsRightAboutItsDecimals(t *testing.T) {
	w, c, log := newWorld()
	got := c.Check(t.Context(), 1, listed())
	want := map[string]uint8{"native": 18, "right": 6, "wrong": 8, "silent": 9, "none": 18}
	for _, is := range got {
		if is.Decimals != want[is.ID] {
			t.Errorf("%s has %d decimals", is.ID, is.Decimals)
		}
		if is.WithoutCode != (is.ID == "none") || is.Verified == is.WithoutCode {
			t.Errorf("%+v", is)
		}
	}
	if w.asked != 4 || len(w.stored) != 4 || w.stored["wrong"].Decimals != 8 || !w.stored["silent"].Checked {
		t.Errorf("asked %d, stored %+v", w.asked, w.stored)
	}
	if told := log.String(); !strings.Contains(told, "token=wrong symbol=\"\" listed=18 contract=8") ||
		!strings.Contains(told, "token=none") || strings.Count(told, "\n") != 2 {
		t.Errorf("logged %s", told)
	}
	if again := c.Check(t.Context(), 1, got); w.asked != 4 || again[2].Decimals != 8 {
		t.Errorf("they were asked again: %d", w.asked)
	}
}

func TestWithoutAnAnswerTokensStayAsTheyAre(t *testing.T) {
	w, c, _ := newWorld()
	w.failure = errors.New("no node answers")
	for i, is := range c.Check(t.Context(), 1, listed()) {
		if is != listed()[i] {
			t.Errorf("%+v", is)
		}
	}
	if len(w.stored) != 0 {
		t.Errorf("stored %v", w.stored)
	}
}

// A contract may go, and a token may be listed before its contract is there.
func TestAContractThatIsGoneOrComesBackIsNoticed(t *testing.T) {
	w, c, _ := newWorld()
	known := c.Check(t.Context(), 1, listed())
	asked := w.asked
	read := []bool{false, false, false, false, true}
	if c.CheckUnread(t.Context(), 1, known, read); w.asked != asked {
		t.Error("what is known was asked again")
	}
	w.contracts[1] = token.Contract{WithoutCode: true}
	w.contracts[4] = token.Contract{Decimals: 4, Says: true}
	got := c.CheckUnread(t.Context(), 1, known, []bool{false, true, false, false, false})
	if !got[1].WithoutCode || got[1].Verified || got[4].WithoutCode || got[4].Decimals != 4 || w.asked != asked+2 {
		t.Errorf("%+v, %+v", got[1], got[4])
	}
	if !w.stored["right"].WithoutCode || w.stored["none"].WithoutCode || w.stored["none"].Decimals != 4 {
		t.Errorf("stored %+v", w.stored)
	}
}
