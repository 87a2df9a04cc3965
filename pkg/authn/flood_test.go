package authn_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
)

const (
	floodRate = 10_000 // tokens a second
	senders   = 32
)

// flooder makes tokens with kids that nobody has heard of.
type flooder struct {
	method, rest string // the claims and a signature
	n            atomic.Int64
}

func newFlooder(t testing.TB, s signer) *flooder {
	t.Helper()
	_, rest, _ := strings.Cut(sign(t, s.method, s.private, "ed", claims(time.Now(), nil), nil), ".")
	return &flooder{method: s.method.Alg(), rest: rest}
}

func (f *flooder) kid() string { return fmt.Sprint("made-up-", f.n.Add(1)) }

func (f *flooder) token() string {
	header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":%q}`, f.method, f.kid(), authn.TokenType)
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + f.rest
}

// paced calls do n times over d, from many goroutines, late rather than never;
// it says when it is late.
func paced(n int, d time.Duration, do func(late bool)) (took time.Duration) {
	var all sync.WaitGroup
	begun := time.Now()
	for range senders {
		all.Go(func() {
			for i := range n / senders {
				early := time.Until(begun.Add(d * time.Duration(i) / time.Duration(n/senders)))
				if early > time.Millisecond {
					pass(early)
				}
				do(early < -10*time.Millisecond)
			}
		})
	}
	all.Wait()
	return time.Since(begun)
}

// latencies is how long the verification of a good token takes, time and again
// until done is closed.
func latencies(t *testing.T, v *authn.Verifier, good []string, done <-chan struct{},
	count *atomic.Int64) (took []time.Duration) {
	t.Helper()
	for i := 0; ; i++ {
		select {
		case <-done:
			slices.Sort(took)
			return took
		case <-time.After(time.Millisecond):
		}
		begun := time.Now()
		if _, err := v.Verify(t.Context(), good[i%len(good)]); err != nil {
			t.Error("a good token is refused: ", err)
			return took
		}
		took = append(took, time.Since(begun))
		count.Add(1)
	}
}

// heldServer serves a key set, and from the second fetch on answers only when
// the test lets it.
type heldServer struct {
	*httptest.Server
	fetches atomic.Int64
	hold    func()
}

func newHeldServer(t *testing.T, body []byte, hold func()) *heldServer {
	t.Helper()
	s := &heldServer{hold: hold}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.fetches.Add(1) > 1 {
			s.hold()
		}
		w.Header().Set("Cache-Control", "max-age=86400")
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAFloodOfMadeUpKidsCausesAFetchInTenSecondsAndSlowsNoOther(t *testing.T) {
	signers, _ := newSigners(t)
	ed := signers["ed"]
	f := newFlooder(t, ed)
	good := make([]string, 1000)
	for i := range good {
		good[i] = sign(t, ed.method, ed.private, "ed", claims(time.Now(), map[string]any{"jti": fmt.Sprint(i)}), nil)
	}
	var known atomic.Int64
	server := newHeldServer(t, jwks(t, map[string]any{"ed": ed.private.Public()}), func() {
		// Known tokens are verified while a fetch is under way.
		before := known.Load()
		for end := time.Now().Add(2 * time.Second); known.Load() < before+20 && time.Now().Before(end); {
			pass(time.Millisecond)
		}
		if known.Load() < before+20 {
			t.Error("known tokens wait for a fetch of an unknown one")
		}
	})
	var ahead atomic.Int64
	r := authn.NewRemoteKeys(server.URL, slog.New(slog.DiscardHandler))
	r.SetNow(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	defer func() { fail(t, r.Close()) }()
	v := authn.NewVerifier(r, authn.Options{Issuer: issuer})
	_, err := v.Verify(t.Context(), good[0])
	fail(t, err)
	measure := func(during func()) []time.Duration {
		done := make(chan struct{})
		go func() { defer close(done); during() }()
		return latencies(t, v, good, done, &known)
	}
	calm := measure(func() { pass(time.Duration(testkit.Size(200, 1000)) * time.Millisecond) })
	ahead.Store(int64(10 * time.Second)) // so that the first made-up kid causes a fetch
	seconds := testkit.Size(1, 30)
	var refused, bare atomic.Int64
	var took time.Duration
	flooded := measure(func() {
		took = paced(floodRate*seconds, time.Duration(seconds)*time.Second, func(late bool) {
			if late { // a machine that is too slow for whole tokens at this rate asks for their keys alone
				if _, err := r.Key(t.Context(), f.kid()); errors.Is(err, authn.ErrUnknownKey) {
					bare.Add(1)
				}
				return
			}
			if _, err := v.Verify(t.Context(), f.token()); reasonOf(err) == "TOKEN_INVALID" {
				refused.Add(1)
			}
		})
	})
	fetches := server.fetches.Load() - 1
	if most := int64(took/(10*time.Second)) + 1; fetches < 1 || fetches > most {
		t.Errorf("%d fetches in %s", fetches, took)
	}
	if sent := f.n.Load(); refused.Load()+bare.Load() != sent || refused.Load() == 0 ||
		sent < int64(floodRate*seconds)*99/100 {
		t.Errorf("%d tokens and %d bare kids of %d were refused", refused.Load(), bare.Load(), sent)
	}
	testkit.Figure(t, "%d made-up kids (%d of them in whole tokens), %.0f a second from %d goroutines: %d fetches "+
		"in %s; p99 of a known token %s (without the flood %s)",
		f.n.Load(), refused.Load(), float64(f.n.Load())/took.Seconds(), senders, fetches, took.Round(time.Millisecond),
		p99(flooded), p99(calm))
}

func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*99/100].Round(100 * time.Nanosecond)
}

// greedy fetches for each kid that it doesn't know.
type greedy struct {
	*http.Client
	url string
}

func (g greedy) Key(ctx context.Context, kid string) (authn.Key, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url, nil)
	if err != nil {
		return authn.Key{}, err
	}
	resp, err := g.Do(req)
	if err != nil {
		return authn.Key{}, err
	}
	return authn.Key{}, cmp.Or(resp.Body.Close(), authn.ErrUnknownKey)
}

func TestWithoutThePauseEachMadeUpKidCausesAFetch(t *testing.T) {
	signers, _ := newSigners(t)
	f := newFlooder(t, signers["ed"])
	server := newHeldServer(t, jwks(t, map[string]any{"ed": publicKey(t)}), func() {})
	client := server.Client()
	defer client.CloseIdleConnections()
	v := authn.NewVerifier(greedy{client, server.URL}, authn.Options{Issuer: issuer})
	for range 100 {
		if _, err := v.Verify(t.Context(), f.token()); reasonOf(err) != "TOKEN_INVALID" {
			t.Fatal(err)
		}
	}
	if n := server.fetches.Load(); n != 100 {
		t.Errorf("%d fetches: the flood proves nothing", n)
	}
	testkit.Figure(t, "control: 100 made-up kids cause %d fetches where each may", server.fetches.Load())
}
