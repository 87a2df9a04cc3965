package httpx

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// line passes connections on to a server, until those that are open are cut without a word.
type line struct {
	lis    net.Listener
	server string

	mu   sync.Mutex
	live map[net.Conn]bool // false: what comes is dropped
	all  sync.WaitGroup
}

func newLine(t *testing.T, server string) *line {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{lis: lis, server: server, live: map[net.Conn]bool{}}
	l.all.Go(l.accept)
	t.Cleanup(func() {
		_ = lis.Close()
		l.mu.Lock()
		for c := range l.live {
			_ = c.Close()
		}
		l.mu.Unlock()
		l.all.Wait()
	})
	return l
}

func (l *line) accept() {
	for {
		in, err := l.lis.Accept()
		if err != nil {
			return
		}
		var d net.Dialer
		out, err := d.DialContext(context.Background(), "tcp", l.server)
		if err != nil {
			_ = in.Close()
			continue
		}
		l.mu.Lock()
		l.live[in], l.live[out] = true, true
		l.mu.Unlock()
		l.all.Go(func() { l.pass(in, out) })
		l.all.Go(func() { l.pass(out, in) })
	}
}

// pass leaves the connections open: a lost one isn't closed.
func (l *line) pass(from, to net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		live := l.live[from]
		l.mu.Unlock()
		if live {
			_, _ = to.Write(buf[:n])
		}
	}
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.live {
		l.live[c] = false
	}
}

// The control is a client whose transport wasn't told to notice.
func TestALostConnectionOfHTTP2IsGivenUp(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "here")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	for name, notices := range map[string]bool{"with NoticeLost": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, server.Listener.Addr().String())
			transport := server.Client().Transport.(*http.Transport).Clone()
			if notices {
				noticeLost(transport, 200*time.Millisecond, 200*time.Millisecond)
			}
			client := &http.Client{Transport: transport, Timeout: 300 * time.Millisecond}
			t.Cleanup(client.CloseIdleConnections)
			get := func() bool {
				url := "https://" + l.lis.Addr().String()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := client.Do(r)
				if err != nil {
					return false
				}
				_, err = io.Copy(io.Discard, resp.Body)
				return resp.Body.Close() == nil && err == nil && resp.ProtoMajor == 2
			}
			testkit.Eventually(t, time.Minute, get) // a slow machine may take longer for the first
			l.cut()
			if notices {
				testkit.Eventually(t, time.Minute, get)
				return
			}
			for range 5 {
				if get() {
					t.Fatal("a request got another connection: nothing is left to prove")
				}
			}
		})
	}
}

func TestTheDefaultTransportIsNotChanged(t *testing.T) {
	own := Default()
	if own.HTTP2 == nil || own.HTTP2.SendPingTimeout != quiet || own.HTTP2.PingTimeout != answerWithin {
		t.Errorf("%+v", own.HTTP2)
	}
	if def := http.DefaultTransport.(*http.Transport); def == own || def.HTTP2 != nil {
		t.Error("the default transport was changed")
	}
}
