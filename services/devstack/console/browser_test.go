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

// pageTimeout bounds waiting for the page. A busy machine starts a browser, and loads the page, slowly.
const pageTimeout = time.Minute

// browser is a page open in Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps the page in it

	last []string // what shows read last

	mu       sync.Mutex
	requests []string
	errors   []string
}

// chromium finds the browser. Without one the test fails.
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
		"that is installed somewhere else")
	return ""
}

// openBrowser starts Chromium with an empty profile and opens a page.
func openBrowser(t *testing.T, page string) *browser {
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
	ctx, closePage := chromedp.NewContext(allocated, chromedp.WithListener(b.record))
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

// call sends a command of the DevTools protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// record stores requests and errors of the page.
func (b *browser) record(event any) {
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
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression on the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "navigated or closed") { // the page loads
		out, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// text returns the texts of the elements that a selector finds, with white space folded.
func (b *browser) text(selector string) []string {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	return eval[[]string](b, "[...document.querySelectorAll("+string(
		quoted)+")].map((e) => e.textContent.trim().replace(/\\s+/g, ' '))")
}

// shows waits until the text is in an element that the selector finds.
func (b *browser) shows(selector, text string) {
	b.t.Helper()
	shown := false
	b.t.Cleanup(func() {
		if !shown {
			b.t.Logf("waited for %q in %s, where there is %q", text, selector, b.last)
		}
	})
	testkit.Eventually(b.t, pageTimeout, func() bool {
		b.last = b.text(selector)
		return strings.Contains(strings.Join(b.last, "\n"), text)
	})
	shown = true
}

// scheme sets the preferred colour scheme, light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
}

// focused presses the tab key and returns the elements focused, in order, each by its id, range, class or
// tag name.
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

// foreignRequests returns the requests that went to another host than the page's.
func (b *browser) foreignRequests(page string) []string {
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

// loggedErrors returns the errors and warnings of the browser and its console.
func (b *browser) loggedErrors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.errors...)
}

// screenshot writes a picture of the whole page to a file.
func (b *browser) screenshot(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// resize sets the width of the page.
func (b *browser) resize(width int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 1000,
		DeviceScaleFactor: 1})
}

// click clicks on the element that a selector finds. It does so in one step on the page: a panel may be replaced at
// any time, and an element that the DevTools protocol found before is gone then.
func (b *browser) click(selector string) {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector(" + string(quoted) + ").click()"))
}

// focus puts the keyboard's focus on the element that a selector finds, in one step as click does.
func (b *browser) focus(selector string) {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector(" + string(quoted) + ").focus()"))
}

// fill types into a field of the page, in place of what is there.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector("+string(quoted)+").value = ''"),
		chromedp.SendKeys(chromedp.CSS(selector), text))
}
