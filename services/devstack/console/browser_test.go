package console_test

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/purserhq/purser/pkg/testkit"
)

// patience with the page, which looks every two seconds.
const patience = 15 * time.Second

// browser is a page in a real one.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps the page in it

	mu       sync.Mutex
	requests []string
	errors   []string
}

// chromium finds the browser. Without one the test fails: nothing else tells
// whether the page works.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{
		os.Getenv("PURSER_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("Chromium is missing: tools/setup.sh browser installs it, or says how to; PURSER_CHROMIUM names one " +
		"that is elsewhere")
	return ""
}

// open starts a browser on an empty profile and goes to a page.
func open(t *testing.T, page string) *browser {
	t.Helper()
	flags := append([]chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1360, 1000),
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU,
	}, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true))
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox) // which doesn't work for root
	}
	allocated, stop := chromedp.NewExecAllocator(t.Context(), flags...)
	b := &browser{t: t}
	ctx, closePage := chromedp.NewContext(allocated, chromedp.WithListener(b.hear))
	b.ctx = ctx
	t.Cleanup(func() {
		closePage()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil { // starts it, for as long as ctx lasts
		t.Fatal(err)
	}
	call(b, log.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	call(b, runtime.Enable, cdp.Empty{})
	b.do(chromedp.Navigate(page))
	return b
}

// call sends a command of the protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.errors = append(b.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.errors = append(b.errors, "console")
		}
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns what an expression is on the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// text of the elements that a selector finds, without the space around it.
func (b *browser) text(selector string) []string {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	return eval[[]string](b, "[...document.querySelectorAll("+string(
		quoted)+")].map((e) => e.textContent.trim().replace(/\\s+/g, ' '))")
}

// shows waits until an element's text has this in it.
func (b *browser) shows(selector, text string) {
	b.t.Helper()
	b.t.Cleanup(func() {
		if b.t.Failed() {
			b.t.Logf("waited for %q in %s", text, selector)
		}
	})
	testkit.Eventually(b.t, patience, func() bool {
		return strings.Contains(strings.Join(b.text(selector), "\n"),
			text)
	})
}

// scheme makes the browser ask for light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// focused walks with the tab key and returns what had the focus, in order: an
// id, else the kind of element.
func (b *browser) focused(steps int) []string {
	b.t.Helper()
	var out []string
	for range steps {
		b.do(chromedp.KeyEvent(kb.Tab))
		out = append(out, eval[string](b, "document.activeElement.id || document.activeElement.dataset.range || "+
			"document.activeElement.className || document.activeElement.tagName.toLowerCase()"))
	}
	return out
}

// elsewhere are the requests that went to another host than this page's.
func (b *browser) elsewhere(page string) []string {
	own, err := url.Parse(page)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) == 0 {
		b.t.Error("no request was seen")
	}
	var out []string
	for _, r := range b.requests {
		if u, err := url.Parse(r); err != nil || u.Host != own.Host {
			out = append(out, r)
		}
	}
	return out
}

func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.errors...)
}

// picture writes the whole page to a file.
func (b *browser) picture(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// faint lists the texts whose contrast with what is behind them is under 4.5
// to 1, which WCAG 2.2 asks for at level AA.
func (b *browser) faint() []string {
	b.t.Helper()
	return eval[[]string](b, `(() => {
		const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
		const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
			.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
		const behind = (e) => {
			const layers = [];
			for (let up = e; up; up = up.parentElement) {
				const c = parse(getComputedStyle(up).backgroundColor);
				layers.push([c[0], c[1], c[2], c[3] ?? 1]);
				if ((c[3] ?? 1) === 1) { break; }
			}
			return layers.reverse().reduce((under, [r, g, b, a]) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a)), [255, 255, 255]);
		};
		const out = [];
		for (const e of document.querySelectorAll("body *")) {
			const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
			if (!own || !e.checkVisibility()) { continue; }
			const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
			const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (ratio < 4.5) { out.push(e.tagName + "." + e.className + " " + ratio.toFixed(2) + ": " + e.textContent.trim().slice(0, 40)); }
		}
		return out;
	})()`)
}
