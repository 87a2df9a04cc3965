package console_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/testkit"
)

// looksRight checks the page at the widths of a phone, a tablet and a desktop in both colour schemes, and writes a
// screenshot of each if asked to.
func (s *stage) looksRight(t *testing.T, b *browser) {
	t.Helper()
	if screenshotDir() != "" { // with a trace across the services, which the page's own valuations would hide
		b.do(chromedp.Navigate("about:blank"))
		s.makeTrace(t)
		b.do(chromedp.Navigate(s.console.URL()))
	}
	s.failJob(t)
	b.shows("#jobs .bad", "the node of chain 31337")
	for _, width := range []int64{1400, 820, 390} {
		b.resize(width)
		// Its group may not be listed any more, while the page's own calls make so many others. Jobs have traces too.
		b.do(chromedp.Evaluate[chromedp.Void](`if (!document.querySelector(".trace[open]")) {
			const calls = [...document.querySelectorAll(".group")].find((g) =>
				g.querySelector("summary").textContent.includes("Service/"));
			const newest = calls.querySelector(".trace");
			newest.parentElement.open = newest.open = true;
		}`))
		b.shows(".trace[open] .spans tbody th", "Service/")
		testkit.Eventually(t, pageTimeout, func() bool {
			return eval[bool](b, "document.querySelector('#chart canvas')?.clientWidth > 200")
		})
		background := map[string]string{}
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			background[scheme] = eval[string](b, "getComputedStyle(document.body).backgroundColor")
			where := fmt.Sprintf("%d px, %s", width, scheme)
			for _, fault := range append(b.lowContrast(), b.layoutFaults(width <= 900)...) {
				t.Errorf("%s: %s", where, fault)
			}
			for _, violation := range b.axe() {
				t.Errorf("%s: axe: %s", where, violation)
			}
			if dir := screenshotDir(); dir != "" {
				name := map[int64]string{1400: "console", 820: "console-tablet", 390: "console-phone"}[width]
				b.screenshot(filepath.Join(dir, name+"-"+scheme+".png"))
			}
		}
		if background["light"] == background["dark"] {
			t.Errorf("light and dark are both %s", background["light"])
		}
	}
	b.scheme("light")
	reportsFaults(t, b)
	b.resize(1400)
}

// failJob stores a run of a job that failed with a long error, which takes most of the width of its table.
func (s *stage) failJob(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_wallet"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), `
		INSERT INTO job_runs (job, scheduled_at, shard, shards, state, attempt, next_attempt_at, started_at,
		                      finished_at, error)
		VALUES ('find_transactions', date_trunc('minute', now()), 3, 6, 'done', 5, now(), now(), now(),
		        repeat('CHAIN_UNAVAILABLE: the node of chain 31337 did not answer, and it is the only one; ', 4))`)
	if err != nil {
		t.Fatal(err)
	}
}

// reportsFaults is the control of the checks: each finds the fault that it is for.
func reportsFaults(t *testing.T, b *browser) {
	t.Helper()
	change := func(script string) { b.do(chromedp.Evaluate[chromedp.Void](script)) }
	change("document.querySelector('h1').style.color = '#999'")
	if got := b.lowContrast(); len(got) != 1 {
		t.Errorf("grey on white: %q", got)
	}
	if got := b.axe(); len(got) != 1 && axeScript(t) != "" {
		t.Errorf("grey on white: axe reports %q", got)
	}
	for fault, style := range map[string]string{
		"wider than the page": "min-width: 600px", "cut off": "overflow: hidden; white-space: nowrap; width: 40px",
		"small target": "min-height: 0; height: 20px",
		"squeezed":     "width: 44px; padding: 0; overflow-wrap: anywhere; font-size: 40px",
	} {
		change("document.querySelector('#pause').style = '" + style + "'")
		if got := b.layoutFaults(true); !strings.Contains(strings.Join(got, "\n"), fault) {
			t.Errorf("%s is not reported: %q", fault, got)
		}
	}
	change("document.querySelector('h1').style = document.querySelector('#pause').style = ''")
}

// fillsFromZeroOnly checks that the area under the line is filled only where the axis begins at zero.
func (s *stage) fillsFromZeroOnly(t *testing.T, b *browser) {
	t.Helper()
	for _, rng := range []string{"daily", "hourly"} {
		b.click("[data-range=" + rng + "]")
		// The pixels just above the axis, in rows of which a grid line has one at most. What is drawn follows what is
		// said with the next frame.
		var drawn struct{ Filled, Cut bool }
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s: filled: %v, and the axis is said to be cut: %v", rng, drawn.Filled, drawn.Cut)
			}
		})
		testkit.Eventually(t, pageTimeout, func() bool {
			drawn = eval[struct{ Filled, Cut bool }](b, `(() => {
				const canvas = document.querySelector("#chart canvas");
				const over = document.querySelector("#chart .u-over");
				const box = over.getBoundingClientRect(), all = canvas.getBoundingClientRect();
				const scale = canvas.width / all.width;
				const paint = canvas.getContext("2d");
				const filled = [3, 6, 9].every((above) => {
					const y = (box.bottom - all.top - above) * scale;
					const row = paint.getImageData((box.left - all.left) * scale, y, box.width * scale, 1).data;
					return row.filter((v, i) => i % 4 === 3 && v > 0).length > row.length / 8;
				});
				return { Filled: filled, Cut: document.querySelector("#axis").textContent !== "" };
			})()`)
			return drawn.Filled != drawn.Cut
		})
	}
	b.click("[data-range=daily]")
}

// worksWithKeyboard reaches every control with the tab key, and reads the chart.
func worksWithKeyboard(t *testing.T, b *browser) {
	t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void]("document.activeElement.blur()"))
	order := b.focused(8)
	want := []string{"skip", "summary", "pause", "select", "daily", "hourly", "chart", "summary"}
	if !slices.Equal(order[:len(want)], want) {
		t.Errorf("the tab key leads to %q, want %q", order, want)
	}
	b.focus("#chart")
	b.do(chromedp.KeyEvent(kb.End))
	if got := b.text("#readout"); !strings.Contains(got[0], " USD") {
		t.Errorf("the chart says %q", got)
	}
	b.focus("#d-days summary")
	b.do(chromedp.KeyEvent(kb.Enter))
	if !eval[bool](b, "document.getElementById('d-days').open") {
		t.Error("the table of values doesn't open")
	}
}
