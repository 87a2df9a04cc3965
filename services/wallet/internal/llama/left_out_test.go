package llama_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/llama"
)

// What is not used is told, not dropped in silence.
func TestPricesThatAreLeftOutAreTold(t *testing.T) {
	var log bytes.Buffer
	at := noon().Unix()
	f := newFeed(t, 200, fmt.Sprintf(`{"coins":{%q:{"price":NaN,"timestamp":%d},%q:{"price":5,"timestamp":%d000}}}`,
		coin, at, native, at))
	s, err := llama.New(f.URL, map[uint64]string{1: "ethereum"}, slog.New(slog.NewTextHandler(&log, nil)), noon)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Current(t.Context(), tokens()); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
	if told := log.String(); !strings.Contains(told, `prices left out`) || !strings.Contains(told,
		`reasons="no price: 1, such as erc20; of the future: 1, such as native"`) {
		t.Errorf("logged %s", told)
	}
	log.Reset()
	f.set(200, fmt.Sprintf(`{"coins":{%q:{"confidence":0.01,"prices":[{"price":5,"timestamp":%d}]},`+
		`%q:{"confidence":0.99,"prices":[{"price":NaN,"timestamp":%d},{"price":6,"timestamp":%d}]}}}`,
		coin, at, native, at, at))
	past, err := s.History(t.Context(), tokens(), noon().Add(-time.Hour), 2)
	if err != nil || len(past["erc20"]) != 0 || len(past["native"]) != 1 || past["native"][0].Value != "6" {
		t.Errorf("of the past: %v, %v", past, err)
	}
	if told := log.String(); !strings.Contains(told, "low confidence: 1, such as erc20; no price: 1, such as native") {
		t.Errorf("logged %s", told)
	}
}
