package suitetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// abused are three services as programs, and somebody who uses them all the while.
type abused struct {
	e         suite.Endpoints
	processes []*process
	c         *demo.Clients
	honest    context.Context //nolint:containedctx // with the token of somebody who does nothing wrong
}

// works fails the test unless everybody else is served, within a time that is short of any timeout.
func (a abused) works(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(a.honest, 5*time.Second)
	defer stop()
	for what, call := range map[string]func() error{
		"auth":   func() error { return get(a.c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})) },
		"wallet": func() error { return get(a.c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})) },
		"portfolio": func() error {
			return get(a.c.Portfolios.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{}))
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s does not serve others: %v", what, err)
		}
	}
}

// What hostile peers send to the three services costs them their own calls or connections, and nobody else theirs.
func TestTheServicesSurviveHostilePeers(t *testing.T) {
	t.Parallel()
	b := startInfrastructure(t, suite.Options{})
	a := abused{}
	a.e, a.processes = startProcesses(t, b, func(service string, environ []string) []string {
		if service == "auth" {
			return append(environ, "PURSER_ACCESS_TTL=2h") // 10,000 requests of each method take 20 minutes
		}
		return environ
	})
	a.c = dial(t, a.e)
	a.honest, _ = signIn(t, a.c)
	a.works(t)
	t.Run("malformed and oversized requests of every method", a.wrongRequests)
	t.Run("frames that are none", a.wrongFrames)
	t.Run("calls that are reset at once", a.rapidResets)
	t.Run("connections that say nothing", a.silentConnections)
	t.Run("texts that look like lines of a log", a.injections)
}

const unnamedCompression = "compressed without a name"

// wrongRequests are messages that aren't, each with the bytes of its gRPC frame.
func wrongRequests() map[string][]byte {
	frame := func(compressed byte, length int, body []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{compressed}, uint32(length)), body...)
	}
	whole := func(body []byte) []byte { return frame(0, len(body), body) }
	return map[string][]byte{
		"a field that ends early":      whole([]byte{0x0a, 0x7f, 'x'}),
		"a wire type that isn't known": whole([]byte{0x0f}),
		"field number 0":               whole([]byte{0x02, 0x01, 'x'}),
		"a number without an end":      whole(bytes.Repeat([]byte{0xff}, 11)),
		"text":                         whole([]byte(`{"walletId":"7"}`)),
		"too large":                    frame(0, 5<<20, []byte{0x0a}),
		"larger than a message can be": frame(0, 1<<32-1, nil),
		unnamedCompression:             frame(1, 3, []byte{1, 2, 3}),
	}
}

// wrongRequests sends each of them to each method, many times. The answer is an error of the caller.
func (a abused) wrongRequests(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Protocols: &protocols}}
	defer client.CloseIdleConnections()
	allowed := []codes.Code{codes.InvalidArgument, codes.Unauthenticated, codes.ResourceExhausted}
	var calls atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, m := range servedMethods(a.e) {
		url := fmt.Sprintf("http://%s/%s/%s", m.addr, m.Parent().FullName(), m.Name())
		for name, body := range wrongRequests() {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				for range testkit.Size(1, 10_000/len(wrongRequests())) {
					code, text := post(t, client, url, body)
					calls.Add(1)
					// gRPC's specification has INTERNAL for a flag of compression that no header goes with.
					if !slices.Contains(allowed, code) && (name != unnamedCompression || code != codes.Internal) {
						t.Errorf("%s, %s: %v %s", m.FullName(), name, code, text)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	testkit.Figure(t, "%d malformed or oversized requests, each an error of its caller", calls.Load())
	a.works(t)
}

// post sends a body as a call and returns the status.
func post(t *testing.T, c *http.Client, url string, body []byte) (codes.Code, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return codes.Unknown, ""
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	resp, err := c.Do(r)
	if err != nil {
		t.Error(err)
		return codes.Unknown, ""
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	for _, from := range []http.Header{resp.Trailer, resp.Header} {
		if n, err := strconv.Atoi(from.Get("Grpc-Status")); err == nil {
			return codes.Code(n), from.Get("Grpc-Message")
		}
	}
	return codes.Unknown, fmt.Sprintf("HTTP %s without a status: %v %v", resp.Status, resp.Header, resp.Trailer)
}

// rawPeer is a connection that speaks HTTP/2 frame by frame.
type rawPeer struct {
	net.Conn
	*http2.Framer
}

// dialFrames opens one and sends the preface and the first settings.
func dialFrames(t *testing.T, addr string) rawPeer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := rawPeer{conn, http2.NewFramer(conn, conn)}
	p.AllowIllegalWrites = true
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return p
}

// headers is the header block of a call.
func headers(method string, more ...string) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	pairs := append([]string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "localhost",
		"content-type", "application/grpc", "te", "trailers"}, more...)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return block.Bytes()
}

const getMe = "/purser.auth.v1.AccountService/GetMe"

// wrongFrames sends frames that HTTP/2 forbids. The connection ends, or the next call on it is answered.
func (a abused) wrongFrames(t *testing.T) {
	for name, send := range map[string]func(rawPeer) error{
		"data of no stream":           func(p rawPeer) error { return p.WriteData(0, true, []byte("x")) },
		"data of a stream that isn't": func(p rawPeer) error { return p.WriteData(7, true, []byte("x")) },
		"a stream of the server's":    func(p rawPeer) error { return p.call(2, getMe) },
		"a stream that went by": func(p rawPeer) error {
			return errors.Join(p.call(5, getMe), p.call(3, getMe))
		},
		"a window of 0": func(p rawPeer) error {
			return p.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))
		},
		"settings of five bytes": func(p rawPeer) error {
			return p.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5))
		},
		"a push": func(p rawPeer) error {
			return p.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, make([]byte, 4))
		},
		"a continuation of none": func(p rawPeer) error { return p.WriteContinuation(1, true, headers(getMe)) },
		"headers that are no list": func(p rawPeer) error {
			return p.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, bytes.Repeat([]byte{0xff}, 64))
		},
		"a frame larger than said": func(p rawPeer) error {
			return p.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20))
		},
		"text": func(p rawPeer) error {
			_, err := io.WriteString(p, "GET / HTTP/1.1\r\n\r\n")
			return err
		},
	} {
		for _, addr := range []string{a.e.Auth, a.e.Wallet, a.e.Portfolio} {
			p := dialFrames(t, addr)
			_ = send(p) // an error says that the server has closed it already
			if !p.answers(t, 11) {
				t.Errorf("%s: the connection neither ends nor answers", name)
			}
		}
	}
	a.works(t)
}

// call begins and ends a call on a stream, without a message.
func (p rawPeer) call(stream uint32, method string, more ...string) error {
	return p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headers(method, more...),
		EndHeaders: true, EndStream: true})
}

// answers makes a call on a stream, and reads until the server ends a stream or the connection.
func (p rawPeer) answers(t *testing.T, stream uint32) bool {
	t.Helper()
	_ = p.call(stream, getMe)
	if err := p.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return true
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return true
			}
		}
	}
}

// rapidResets opens calls and resets each at once, on several connections, while others are served (CVE-2023-44487
// names the kind).
func (a abused) rapidResets(t *testing.T) {
	const connections = 4
	before := a.memory(t)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for _, addr := range []string{a.e.Auth, a.e.Wallet, a.e.Portfolio} {
		for range connections {
			p := dialFrames(t, addr)
			wg.Go(func() { _, _ = io.Copy(io.Discard, p.Conn) })
			wg.Go(func() {
				defer func() { _ = p.Close() }()
				for i := range testkit.Size(2_000, 100_000) {
					id := uint32(2*i + 1)
					err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers(getMe),
						EndHeaders: true})
					if err == nil {
						err = p.WriteRSTStream(id, http2.ErrCodeCancel)
					}
					if err != nil {
						return // the server has had enough
					}
					sent.Add(1)
				}
			})
		}
	}
	for range 5 {
		a.works(t)
	}
	wg.Wait()
	a.works(t)
	after := a.memory(t)
	testkit.Figure(t, "%d calls were opened and reset; memory of the three processes %d MiB before, %d MiB after",
		sent.Load(), before>>20, after>>20)
	if after > before+200<<20 {
		t.Errorf("the processes have %d MiB, %d before", after>>20, before>>20)
	}
}

// memory is that of the three processes.
func (a abused) memory(t *testing.T) (sum int) {
	t.Helper()
	for _, p := range a.processes {
		sum += p.memory(t)
	}
	return sum
}

// silentConnections opens many that send half of what begins one. Others are served meanwhile, and the server closes
// them.
func (a abused) silentConnections(t *testing.T) {
	var open []net.Conn
	for _, addr := range []string{a.e.Auth, a.e.Wallet, a.e.Portfolio} {
		for range testkit.Size(100, 1_000) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, http2.ClientPreface[:10]); err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
	}
	a.works(t)
	for _, conn := range open {
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection that says nothing stays open")
		}
	}
	a.works(t)
}

// injections puts lines of a log and colours of a terminal into all that a caller may name. The log has one JSON
// object in each line, and none that the caller wrote. It ends the processes.
func (a abused) injections(t *testing.T) {
	const line = "x\n{\"level\":\"ERROR\",\"msg\":\"written by the caller\"}\r\n\x1b[31mred"
	_ = get(a.c.Wallets.CreateWallet(a.honest, &walletv1.CreateWalletRequest{Account: line, Label: line}))
	_ = get(a.c.Portfolios.CreatePortfolio(a.honest, &portfoliov1.CreatePortfolioRequest{Name: line}))
	_ = get(a.c.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: line, Password: line}))
	for _, addr := range []string{a.e.Auth, a.e.Wallet, a.e.Portfolio} {
		p := dialFrames(t, addr)
		for i, more := range [][]string{{"user-agent", line}, {"traceparent", line}, {"baggage", line},
			{"x-forwarded-for", line}, {"grpc-timeout", line}, {"authorization", "Bearer " + line}} {
			// An error says that it was refused already.
			_ = p.call(uint32(2*i+1), "/purser.x/"+strings.ReplaceAll(line, "\n", "%0a"), more...)
		}
		p.answers(t, 101)
	}
	a.works(t)
	for _, p := range slices.Backward(a.processes) {
		p.ended = true
		_ = p.Signal(syscall.SIGTERM)
		log, err := p.Wait()
		if err != nil {
			t.Errorf("%s: %v", p.Program, err)
		}
		lines := strings.Split(strings.TrimSpace(log), "\n")
		if len(lines) < 5 {
			t.Errorf("the log of %s has %d lines", p.Program, len(lines))
		}
		for _, l := range lines {
			var entry struct{ Msg string }
			if err := json.Unmarshal([]byte(l), &entry); err != nil || entry.Msg == "written by the caller" ||
				strings.ContainsAny(l, "\x1b\r") {
				t.Errorf("the log of %s has the line %q", p.Program, l)
			}
		}
	}
}
