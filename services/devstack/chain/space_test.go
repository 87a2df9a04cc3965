package chain

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gethlog "github.com/ethereum/go-ethereum/log"
)

func smallOptions(t *testing.T) Options {
	t.Helper()
	at := time.Date(2026, time.March, 14, 15, 0, 0, 0, time.UTC)
	return Options{Dir: t.TempDir(), Anchor: at, History: 2 * time.Hour, Now: func() time.Time { return at }}
}

func TestANearlyFullDiskIsReportedBeforeAnythingIsWritten(t *testing.T) {
	o := smallOptions(t)
	o.freeSpace = func(string) (uint64, error) { return 5 << 20, nil }
	_, err := Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "nearly full: 5 MB free") || strings.Contains(err.Error(), "\n") {
		t.Errorf("have %v, want one line about the full disk", err)
	}
}

func TestADiskThatFillsUpStopsMiningAndNotTheChain(t *testing.T) {
	o := smallOptions(t)
	var free atomic.Uint64
	free.Store(1 << 30)
	o.freeSpace = func(string) (uint64, error) { return free.Load(), nil }
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := c.Head()
	free.Store(0)
	if err := c.Mine(t.Context()); err == nil || c.Head() != before {
		t.Errorf("mined on a full disk: %v", err)
	}
	free.Store(1 << 30)
	if err := c.Mine(t.Context()); err != nil || c.Head() == before {
		t.Errorf("not mined with space again: %v", err)
	}
}

func TestTheCursorGivesTheSameMovesAfterGoingBack(t *testing.T) {
	o, err := smallOptions(t).complete()
	if err != nil {
		t.Fatal(err)
	}
	c := newCursor(Plan{Start: o.start(), Every: o.BlockEvery, Seed: o.Seed})
	first := c.moves(0, 30)
	c.moves(30, 40)
	again := c.moves(0, 30)
	if len(first) == 0 || len(first) != len(again) {
		t.Fatalf("%d moves at first, %d after going back", len(first), len(again))
	}
	for i := range first {
		if !first[i].Amount.Eq(again[i].Amount) || first[i].To != again[i].To {
			t.Errorf("move %d differs", i)
		}
	}
}

func TestNodeLogIsDemotedAndLeavesSlogsDefaultAlone(t *testing.T) {
	before := slog.Default()
	var out, last bytes.Buffer
	target := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	logger := newNodeLogger(target, &last)
	gethlog.SetDefault(logger)
	if slog.Default() != before {
		t.Error("slog's default logger was replaced")
	}
	logger.Trace("not at all")
	logger.Debug("nor this")
	logger.With("part", "pool").Info("quietly")
	logger.Warn("as it is")
	text := out.String()
	if strings.Contains(text, "not at all") || strings.Contains(text, "nor this") {
		t.Errorf("too much: %s", text)
	}
	if !strings.Contains(text, "level=DEBUG msg=quietly part=pool") || !strings.Contains(text, "level=WARN") {
		t.Errorf("have %s", text)
	}
	if last.Len() > 0 {
		t.Errorf("last words: %s", last.String())
	}
}

func TestFatalErrorsArePrintedAlsoIfTheLogIsDiscarded(t *testing.T) {
	var last bytes.Buffer
	logger := newNodeLogger(slog.New(slog.DiscardHandler), &last)
	logger.Error("lost")
	logger.Write(gethlog.LevelCrit, "disk full")
	if text := last.String(); !strings.Contains(text, `level=ERROR msg="disk full"`) ||
		strings.Contains(text, "lost") {
		t.Errorf("have %q", text)
	}
}
