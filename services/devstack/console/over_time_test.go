package console_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/terminal"
)

// showsOverTime compares growth, drawdown and allocation by day with those of the service, in a currency. Snapshots of
// now change them, so it compares until both agree.
func (s *stage) showsOverTime(t *testing.T, b *browser, currency string) {
	t.Helper()
	var want, got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("over time there is %q, the page shows %q", want, got)
		}
	})
	percent := func(f float64) string {
		text := fmt.Sprintf("%.2f", math.Abs(f))
		switch {
		case text == "0.00":
			return text + " %"
		case f < 0:
			return "−" + text + " %"
		}
		return "+" + text + " %"
	}
	from := func() *timestamppb.Timestamp { return timestamppb.New(time.Now().AddDate(0, 0, -90)) }
	testkit.Eventually(t, pageTimeout, func() bool {
		valued, err := s.clients.Portfolios.GetValuation(s.user, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.clients.Portfolios.GetPerformance(s.user, &portfoliov1.GetPerformanceRequest{StartTime: from(),
			Currency: currency, GrowthInterval: portfoliov1.Interval_INTERVAL_DAILY,
			Benchmark: valued.GetValuation().GetPositions()[0].GetTokenId()})
		if err != nil {
			return false // rates are being read
		}
		want = nil
		for _, p := range slices.Backward(resp.GetPerformance().GetGrowth()) {
			want = append(want, p.GetStartTime().AsTime().Format(time.DateOnly),
				fmt.Sprintf("%.2f", 100*(1+p.GetTimeWeighted().GetValue())),
				fmt.Sprintf("%.2f", 100*(1+p.GetBenchmark().GetValue())), percent(100*p.GetDrawdown().GetValue()))
		}
		got = b.text("#d-growth tbody th, #d-growth tbody td")
		return len(want) >= 8 && slices.Equal(got, want)
	})
	testkit.Eventually(t, pageTimeout, func() bool {
		resp, err := s.clients.Portfolios.GetAllocationHistory(s.user, &portfoliov1.GetAllocationHistoryRequest{
			StartTime: from(), Currency: currency})
		if err != nil {
			t.Fatal(err)
		}
		want = nil
		for _, p := range slices.Backward(resp.GetPoints()) {
			want = append(want, p.GetStartTime().AsTime().Format(time.DateOnly), terminal.Money(p.GetTotal()))
		}
		got = b.text("#d-allocation tbody th, #d-allocation tbody .lead")
		return len(want) >= 6 && slices.Equal(got, want)
	})
	for id, text := range map[string]string{"growth-chart": "portfolio ", "drawdown-chart": " %",
		"allocation-chart": " " + currency + ": "} {
		testkit.Eventually(t, pageTimeout, func() bool {
			return strings.Contains(eval[string](b, "document.getElementById('"+id+"').ariaLabel"), text)
		})
		// Something is drawn: pixels of several colours.
		colours := eval[int](b, `(() => {
			const canvas = document.querySelector("#`+id+` canvas");
			const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
			const seen = new Set();
			for (let i = 0; i < pixels.length; i += 4) {
				if (pixels[i + 3] > 250) { seen.add(pixels[i] * 65536 + pixels[i + 1] * 256 + pixels[i + 2]); }
			}
			return seen.size;
		})()`)
		if colours < 3 {
			t.Errorf("%s has %d colours", id, colours)
		}
		b.focus("#" + id)
		b.do(chromedp.KeyEvent(kb.End))
		if got := b.text("#" + id + " ~ .under .readout"); len(got) != 1 || !strings.Contains(got[0], text) {
			t.Errorf("%s says %q", id, got)
		}
	}
}
