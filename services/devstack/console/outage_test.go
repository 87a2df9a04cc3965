package console_test

import (
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/purserhq/purser/pkg/testkit"
)

// showsAnOutageAndItsEnd stops wallet and starts it again.
func (s *stage) showsAnOutageAndItsEnd(t *testing.T, b *browser) {
	t.Helper()
	before := b.text("#holdings tbody th")
	if err := s.StopService("wallet"); err != nil {
		t.Fatal(err)
	}
	b.shows("#services .down", "wallet down wallet does not answer since ")
	b.shows("#holdings .notice", "wallet is unavailable since ")
	b.shows("#holdings .notice", "showing its data of ")
	if got := b.text("#holdings tbody th"); !slices.Equal(got, before) {
		t.Errorf("while wallet is unavailable the page shows %q", got)
	}
	if got := b.text("#keys .notice"); len(got) > 0 {
		t.Errorf("auth is available, but the page shows %q", got)
	}
	if err := s.RestartService(t.Context(), "wallet"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text(".notice:not([hidden])")) == 0 })
	b.shows("#services .up", "wallet up")
	s.showsHoldings(t, b)
}

// showsAFrozenDatabase stops Postgres from answering, which no connection notices at once.
func (s *stage) showsAFrozenDatabase(t *testing.T, b *browser) {
	t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void]("window.loaded = 'once'"))
	s.Postgres.Pause()
	begun := time.Now()
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		b.shows("#services .degraded", service+" degraded postgres unreachable since ")
	}
	took := time.Since(begun)
	t.Logf("the page showed the frozen database after %s", took)
	if took > 20*time.Second { // six alone; on processors that other tests share, ten were seen
		t.Error("that took longer than 20 s")
	}
	b.shows("#dependencies [data-dependency='wallet postgres']", "unreachable")
	s.Postgres.Resume()
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		b.shows("#services .up", service+" up")
	}
	if eval[string](b, "window.loaded ?? ''") != "once" {
		t.Error("the page was loaded again")
	}
}
