package suitetest

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// pageTimeout bounds waiting for a page.
const pageTimeout = 20 * time.Second

// chromium finds the browser. Without one the test fails, as that of the console does.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("PURSER_CHROMIUM"), "chromium", "chromium-browser", "google-chrome",
		"google-chrome-stable", "/Applications/Chromium.app/Contents/MacOS/Chromium",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("Chromium is missing: tools/setup.sh browser installs it, or says how to; PURSER_CHROMIUM names one " +
		"that is installed somewhere else")
	return ""
}

// openInBrowser opens a page in Chromium and returns the context of the page.
func openInBrowser(t *testing.T, page string) context.Context {
	t.Helper()
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-dev-shm-usage", true),
	}
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox) // which doesn't work for root
	}
	allocated, stop := chromedp.NewExecAllocator(t.Context(), flags...)
	ctx, closePage := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		closePage()
		stop()
	})
	if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// onPage returns the value of a JavaScript expression on the page.
func onPage(t *testing.T, page context.Context, expression string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(page, pageTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// checkBrowser follows the printed link to the local provider, clicks a user there, and exchanges the code that the
// app is sent for tokens.
func (f *firstSteps) checkBrowser(t *testing.T, c *demo.Clients) {
	t.Helper()
	link := ""
	for line := range strings.SplitSeq(f.c.output.String(), "\n") {
		if strings.Contains(line, "/oauth/local/start?") {
			link = line
		}
	}
	if link == "" {
		t.Fatalf("no link to sign in is printed:\n%s", f.c.output.String())
	}
	page := openInBrowser(t, link)
	if title := onPage(t, page, "document.title"); title != "Local provider" {
		t.Fatalf("%s shows %q", link, title)
	}
	onPage(t, page, `[...document.links].find((a) => a.textContent.startsWith("ada")).click() || ""`)
	testkit.Eventually(t, pageTimeout, func() bool { return onPage(t, page, "document.title") == "Example app" })
	shown, err := url.Parse(onPage(t, page, "location.href"))
	if err != nil {
		t.Fatal(err)
	}
	code := onPage(t, page, `document.querySelector("dd code").textContent`)
	if code == "" || code != shown.Query().Get("code") {
		t.Fatalf("the app at %s shows %q", shown, code)
	}
	resp, err := c.Sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: code})
	if err != nil {
		t.Fatal(err)
	}
	if u := me(t, c, resp.GetTokens()); u.GetEmail() != "ada@example.com" {
		t.Errorf("signed in as %v", u)
	}
}
