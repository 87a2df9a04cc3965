package httponly_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/internal/httponly"
)

// switching answers with a status of 101, and then says nothing until the client has closed the connection, of which
// closed tells.
func switching(t *testing.T) (url string, closed <-chan struct{}) {
	t.Helper()
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		close(gone)
	}))
	t.Cleanup(server.Close)
	return server.URL, gone
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(r)
}

// A server that answers with 101 unasked is not listened to, and its connection is closed. The control is a client
// without it: its timeout does not end the read of the body.
func TestAnAnswerThatEndsHTTPIsAnError(t *testing.T) {
	url, closed := switching(t)
	c := &http.Client{Transport: httponly.Transport(&http.Transport{}), Timeout: time.Minute}
	resp, err := get(t, c, url)
	if err == nil {
		_ = resp.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "status 101") {
		t.Errorf("%v", err)
	}
	<-closed

	url, _ = switching(t)
	plain := &http.Client{Timeout: 300 * time.Millisecond, Transport: &http.Transport{}}
	resp, err = get(t, plain, url)
	if err != nil {
		t.Skipf("the answer came late: %v", err)
	}
	read := make(chan error, 1)
	go func() { _, err := io.ReadAll(resp.Body); read <- err }()
	select {
	case err := <-read:
		t.Errorf("without it: %v, so the package is not needed any more", err)
	case <-time.After(time.Second):
	}
	_ = resp.Body.Close()
	<-read
}

// Other answers are as they are, and idle connections are closed.
func TestOtherAnswersAreAsTheyAre(t *testing.T) {
	states := make(chan http.ConnState, 16)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "text")
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) { states <- s }
	server.Start()
	defer server.Close()
	c := &http.Client{Transport: httponly.Transport(&http.Transport{})}
	resp, err := get(t, c, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "text" || resp.StatusCode != http.StatusTeapot {
		t.Errorf("%d %q, %v", resp.StatusCode, body, err)
	}
	c.CloseIdleConnections()
	for s := range states {
		if s == http.StateClosed {
			return
		}
	}
}
