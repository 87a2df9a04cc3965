package chain_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gorilla/websocket"

	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// socketServer serves a node over WebSocket.
type socketServer struct {
	*httptest.Server
	node *node
	// before, when set and true, has answered the handshake itself. It is set before the first connection.
	before func(w http.ResponseWriter, r *http.Request) bool

	mu     sync.Mutex
	answer func(c *websocket.Conn, message []byte) // see answerWith
	conns  []*websocket.Conn
	opened atomic.Int64
}

func newSocketServer(t testing.TB, n *node, start func(*httptest.Server)) *socketServer {
	t.Helper()
	s := &socketServer{node: n}
	s.Server = httptest.NewUnstartedServer(s)
	start(s.Server)
	t.Cleanup(s.Close)
	t.Cleanup(s.drop)
	return s
}

// ws is the server's URL.
func (s *socketServer) ws() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

// answerWith has each message answered by f instead of the node; by the node again with nil.
func (s *socketServer) answerWith(f func(c *websocket.Conn, message []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// drop ends all connections without a word.
func (s *socketServer) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.UnderlyingConn().Close()
	}
	s.conns = nil
}

func (s *socketServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.before != nil && s.before(w, r) {
		return
	}
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s.opened.Add(1)
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	for {
		_, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			answer(c, message)
			continue
		}
		rec := &recorder{header: http.Header{}}
		s.node.ServeHTTP(rec, &http.Request{Body: io.NopCloser(bytes.NewReader(message)),
			ContentLength: int64(len(message))})
		_ = c.WriteMessage(websocket.TextMessage, rec.body.Bytes())
	}
}

func TestOverWebSocketTheSameIsReadAsOverHTTP(t *testing.T) {
	n := withPast(newNode(t))
	s := newSocketServer(t, n, (*httptest.Server).Start)
	r := newReader(t, 2, s.ws())
	if got, err := r.read(t, tokens(5)); err != nil || amounts(got) != "1 2 3 4 5" {
		t.Fatalf("read %s, %v", amounts(got), err)
	}
	got, err := r.readAt(t, 1, hourOf(40), hourOf(41), hourOf(42)) // in batches
	if err != nil || readingText(got[0]) != "40: 1 1" || readingText(got[2]) != "42: 1 1" || n.batches == 0 {
		t.Errorf("read %v in %d batches, %v", got, n.batches, err)
	}
	if opened := s.opened.Load(); opened != 1 {
		t.Errorf("%d connections were opened", opened)
	}
	all, err := r.Status(t.Context())
	if err != nil || !all[0].Nodes[0].Reachable || all[0].Nodes[0].Head.Number != 100 {
		t.Errorf("told %+v, %v", all, err)
	}
}

func TestAReaderStartsBeforeItsSocketsCanBeOpened(t *testing.T) {
	n := newNode(t)
	s := newSocketServer(t, n, (*httptest.Server).Start)
	var down atomic.Bool
	down.Store(true)
	s.before = func(w http.ResponseWriter, _ *http.Request) bool {
		if down.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
		}
		return down.Load()
	}
	r := newReader(t, 10, s.ws())
	_, err := r.read(t, tokens(1))
	unavailable(t, err)
	down.Store(false)
	if got, err := r.read(t, tokens(1)); err != nil || amounts(got) != "1" {
		t.Errorf("read %s, %v", amounts(got), err)
	}
}

// Servers end connections when they like, also in the middle of a call.
func TestAfterASocketHasEndedAnotherOneIsOpened(t *testing.T) {
	n := newNode(t)
	s := newSocketServer(t, n, (*httptest.Server).Start)
	r := newReader(t, 10, s.ws())
	for range 3 {
		if got, err := r.read(t, tokens(2)); err != nil || amounts(got) != "1 2" {
			t.Fatalf("read %s, %v", amounts(got), err)
		}
		s.drop()
	}
	sound := n.answer
	n.answer = func(targets []common.Address) any {
		n.answer = sound
		s.drop()
		return sound(targets)
	}
	if got, err := r.read(t, tokens(2)); err != nil || amounts(got) != "1 2" {
		t.Errorf("in the middle of a call: read %s, %v", amounts(got), err)
	}
	if r.log.Len() > 0 {
		t.Errorf("logged %s", r.log)
	}
}

func TestWhatIsWrongWithASocketIsSaid(t *testing.T) {
	t.Parallel()
	target := newNode(t)
	refuse := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if code < 400 {
				http.Redirect(w, r, target.URL, code)
			} else {
				http.Error(w, "s3cret-key", code)
			}
			return true
		}
	}
	say := func(message string) func(*websocket.Conn, []byte) {
		return func(c *websocket.Conn, _ []byte) { _ = c.WriteMessage(websocket.TextMessage, []byte(message)) }
	}
	for _, tc := range []struct {
		name   string
		before func(http.ResponseWriter, *http.Request) bool
		answer func(*websocket.Conn, []byte)
		reason chainlist.Reason
		text   string
	}{
		{"a wrong key", refuse(401), nil, chainlist.Unauthorized, "the key or the credentials in its URL"},
		{"too often", refuse(429), nil, chainlist.RateLimited, "it is called too often"},
		{"a redirect", refuse(302), nil, chainlist.Redirects, "redirects to another URL"},
		{"it is down", refuse(503), nil, chainlist.Unreachable, "503 Service Unavailable"},
		{"a huge answer", nil, say(`{"jsonrpc":"2.0","id":1,"result":"` + strings.Repeat("0", 17<<20) + `"}`),
			chainlist.Unreachable, "an answer has more than 16 MiB"},
		{"no JSON", nil, say("<html>"), chainlist.InvalidAnswer, "does not answer with JSON-RPC"},
		{"it hangs up", nil, func(c *websocket.Conn, _ []byte) { _ = c.Close() }, chainlist.Unreachable,
			"the connection ended"},
		{"silence", nil, func(*websocket.Conn, []byte) {}, chainlist.Timeout, "did not answer in time"},
		{"calls of its own", nil, say(`{"jsonrpc":"2.0","id":1,"method":"rpc_modules","params":[]}`),
			chainlist.Timeout, "did not answer in time"},
		{"news that nobody asked for", nil, say(`{"jsonrpc":"2.0","method":"eth_subscription","params":` +
			`{"subscription":"0x1","result":"0x1"}}`), chainlist.Timeout, "did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSocketServer(t, newNode(t), (*httptest.Server).Start)
			s.before = tc.before
			s.answerWith(tc.answer)
			sound := newNode(t)
			url := strings.Replace(s.ws(), "ws://", "ws://user:s3cret-key@", 1) + "/v3/s3cret-key?k=s3cret-key"
			// go-ethereum's client forgets a call in some of the tries (see endGrace): it then ends by its timeout.
			forgotten := func(reason chainlist.Reason) bool {
				return reason == chainlist.Timeout && tc.reason != chainlist.Timeout
			}
			var alone *reader
			var err error
			var reason chainlist.Reason
			for try := 0; try == 0 || try < 10 && forgotten(reason); try++ {
				alone = newReader(t, 10, url)
				_, err = alone.read(t, tokens(1))
				all, statusErr := alone.Status(t.Context())
				if err == nil || statusErr != nil {
					t.Fatalf("the node was read: %v, %v", err, statusErr)
				}
				if reason = all[0].Nodes[0].Reason; strings.Contains(err.Error(), "in time") {
					reason = chainlist.Timeout
				}
			}
			if e := unavailable(t, err); reason != tc.reason || !strings.Contains(e.Message, tc.text) {
				t.Errorf("it says %s and %q, want %s and %q", reason, e.Message, tc.reason, tc.text)
			}
			if told := err.Error() + alone.log.String(); strings.Contains(told, "s3cret") {
				t.Errorf("it tells the key: %s", told)
			}
			if got, err := newReader(t, 10, url, sound.URL).read(t, tokens(1)); err != nil || amounts(got) != "1" {
				t.Errorf("the next node is not read: %v", err)
			}
		})
	}
	if target.asked() > 0 {
		t.Error("the target of a redirect was asked")
	}
}

func TestCredentialsOfASocketAreSentAsBasic(t *testing.T) {
	s := newSocketServer(t, newNode(t), (*httptest.Server).Start)
	var user, password atomic.Value
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		user.Store(u)
		password.Store(p)
		return false
	}
	url := strings.Replace(s.ws(), "ws://", "ws://me:s3cret@", 1)
	if _, err := newReader(t, 10, url).read(t, tokens(1)); err != nil {
		t.Fatal(err)
	}
	if user.Load() != "me" || password.Load() != "s3cret" {
		t.Errorf("sent %v", user.Load())
	}
}

// A certificate of nobody whom the system trusts.
func TestTheCertificateOfASocketIsChecked(t *testing.T) {
	s := newSocketServer(t, newNode(t), (*httptest.Server).StartTLS)
	_, err := newReader(t, 10, s.ws()).read(t, tokens(1))
	if e := unavailable(t, err); !strings.Contains(e.Message, "has a TLS certificate that is not valid") {
		t.Error(e.Message)
	}
}

// A test of its own process, since the system's certificates are read once.
func TestASocketTrustsTheCertificatesThatTheSystemIsGiven(t *testing.T) {
	if url := os.Getenv("TEST_SOCKET_URL"); url != "" {
		if got, err := newReader(t, 10, url).read(t, tokens(1)); err != nil || amounts(got) != "1" {
			t.Errorf("read %s, %v", amounts(got), err)
		}
		return
	}
	s := newSocketServer(t, newNode(t), (*httptest.Server).StartTLS)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	again.Env = append(os.Environ(), "TEST_SOCKET_URL="+s.ws(), "SSL_CERT_FILE="+ca)
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The other end of a connection is gone without a word, as after a firewall forgot it.
func TestASocketOnWhichNothingComesIsLeft(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	s := newSocketServer(t, n, (*httptest.Server).Start)
	r := newReader(t, 10, s.ws())
	if _, err := r.read(t, tokens(1)); err != nil {
		t.Fatal(err)
	}
	hung := make(chan struct{})
	s.answerWith(func(*websocket.Conn, []byte) { <-hung })
	// A connection is left after a call that had 2 s without an answer: on a busy machine 3 s for all were too few.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := r.Read(ctx, 1, 0, common.Address{}, tokens(1)); err == nil {
		t.Fatal("read from a connection that is gone")
	}
	s.answerWith(nil)
	if got, err := r.read(t, tokens(1)); err != nil || amounts(got) != "1" || s.opened.Load() != 2 {
		t.Errorf("read %s by %d connections, %v", amounts(got), s.opened.Load(), err)
	}
	close(hung)
}

func TestRealNodesAreReadOverWebSocket(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			r := newReader(t, 10, "ws"+strings.TrimPrefix(string(n), "http"))
			r.now = time.Now()
			native := token.Token{ID: "native", Chain: 1, Native: true}
			holders := []chainAsk{{common.HexToAddress(servicetest.NodeHolder), "10000000000000000000000 -"},
				{common.Address{1}, "0 -"}}
			for _, h := range holders {
				got, err := r.Read(t.Context(), 1, 0, h.holder, []token.Token{native, tokens(1)[0]})
				if err != nil || amounts(got) != h.want {
					t.Fatalf("read %s, %v", amounts(got), err)
				}
			}
			all, err := r.Status(t.Context())
			if err != nil || !all[0].Nodes[0].Reachable {
				t.Errorf("told %+v, %v", all, err)
			}
			if r.log.Len() > 0 {
				t.Errorf("logged %s", r.log)
			}
		})
	}
}

type chainAsk struct {
	holder common.Address
	want   string
}
