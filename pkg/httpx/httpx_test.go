package httpx

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

// startProxy starts a proxy before a server, until the test ends.
func startProxy(t *testing.T, server string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
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
			addr := server.Listener.Addr().String()
			first, next := startProxy(t, addr), startProxy(t, addr)
			var through atomic.Pointer[faultproxy.Proxy] // new connections
			through.Store(first)
			transport := server.Client().Transport.(*http.Transport).Clone()
			transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, through.Load().Addr())
			}
			if notices {
				noticeLost(transport, 200*time.Millisecond, 200*time.Millisecond)
			}
			client := &http.Client{Transport: transport, Timeout: 300 * time.Millisecond}
			t.Cleanup(client.CloseIdleConnections)
			get := func() bool {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
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
			first.ToServer(faultproxy.Fault{Blackhole: true})
			first.ToClient(faultproxy.Fault{Blackhole: true})
			through.Store(next)
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
