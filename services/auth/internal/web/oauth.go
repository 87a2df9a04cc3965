package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/peer"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

// Pages are the hosted sign-in: GET /oauth/{provider}/start?return_to=… sends a
// browser to the provider, GET /oauth/callback takes it back from there and
// hands a login code to the address that it is to return to.
//
// What ties the two is a cookie that no script can read, one for each sign-in,
// so that several can go on at once.
type Pages struct {
	OAuth    *oauth.Service
	Attempts *attempts.Limiter
	// Secure says that the pages are reached over https.
	Secure bool
	// Proxies are the networks of those in front of this port, who are believed
	// what X-Forwarded-For says of whom they pass on.
	Proxies []netip.Prefix
	Log     *slog.Logger
}

// CallbackPath is the hosted pages' redirect URI under their base URL.
const CallbackPath = "/oauth/callback"

const cookieLife = 300 // seconds, as long as a sign-in may take

// Register adds the pages to mux.
func (p Pages) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /oauth/{provider}/start", p.start)
	mux.HandleFunc("GET "+CallbackPath, p.callback)
}

func (p Pages) start(w http.ResponseWriter, r *http.Request) {
	ctx := p.client(r)
	if _, err := p.Attempts.Take(ctx, grpcserver.PeerAddress(ctx), ""); err != nil {
		p.fail(ctx, w, err)
		return
	}
	q := r.URL.Query()
	started, err := p.OAuth.StartHosted(ctx, r.PathValue("provider"), oauth.Return{
		To: q.Get("return_to"), State: q.Get("state"), Challenge: q.Get("code_challenge"),
	})
	if err != nil {
		p.fail(ctx, w, err)
		return
	}
	http.SetCookie(w, p.cookie(started.State, started.Secret, cookieLife))
	redirect(w, started.URL)
}

func (p Pages) callback(w http.ResponseWriter, r *http.Request) {
	ctx := p.client(r)
	giveBack, err := p.Attempts.Take(ctx, grpcserver.PeerAddress(ctx), "")
	if err != nil {
		p.fail(ctx, w, err)
		return
	}
	q := r.URL.Query()
	c := oauth.Callback{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Error: q.Get("error")}
	if held, err := r.Cookie(p.cookie(c.State, "", 0).Name); err == nil {
		c.Secret = held.Value
	}
	back, err := p.OAuth.FinishHosted(ctx, c)
	if !errs.Is(err, errs.KindUnauthenticated) {
		giveBack()
	}
	if err != nil {
		p.fail(ctx, w, err)
		return
	}
	http.SetCookie(w, p.cookie(c.State, "", -1))
	redirect(w, back)
}

// cookie is the one of a sign-in. __Host- keeps other hosts of the domain from
// setting it; browsers take that over https only.
func (p Pages) cookie(state, secret string, age int) *http.Cookie {
	h := sha256.Sum256([]byte(state))
	name := "purser-oauth-" + hex.EncodeToString(h[:8])
	if p.Secure {
		name = "__Host-" + name
	}
	return &http.Cookie{Name: name, Value: secret, Path: "/", MaxAge: age, HttpOnly: true, Secure: p.Secure,
		SameSite: http.SameSiteLaxMode}
}

// redirect sends a browser on without telling the next page where it was.
func redirect(w http.ResponseWriter, to string) {
	private(w)
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func private(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// fail shows why a browser can't be sent on.
func (p Pages) fail(ctx context.Context, w http.ResponseWriter, err error) {
	status, text := http.StatusInternalServerError, "Something went wrong here. Try again."
	if e := errs.As(err); e != nil && e.Kind != errs.KindInternal {
		status, text = statusOf(e.Kind), e.Message+" ("+e.Reason+")"
	}
	if status >= http.StatusInternalServerError {
		p.Log.WarnContext(ctx, "hosted sign-in failed", "error", err)
	}
	private(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	// the reader went away: nothing to do
	_, _ = w.Write([]byte("<!doctype html><title>Sign in</title><p>" + html.EscapeString(text) + "\n"))
}

func statusOf(k errs.Kind) int {
	switch k {
	case errs.KindInvalid, errs.KindUnauthenticated, errs.KindFailedPrecondition, errs.KindConflict:
		return http.StatusBadRequest
	case errs.KindNotFound:
		return http.StatusNotFound
	case errs.KindExhausted:
		return http.StatusTooManyRequests
	case errs.KindUnavailable, errs.KindDeadline, errs.KindCanceled:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// maxDevice bounds the bytes of a user agent that are kept.
const maxDevice = 200

// client is the context of a request with where it came from, as that of a
// call has it.
func (p Pages) client(r *http.Request) context.Context {
	ctx := r.Context()
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from := netip.AddrPortFrom(p.passedOn(at.Addr(), r.Header.Values("X-Forwarded-For")), at.Port())
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: net.TCPAddrFromAddrPort(from)})
	}
	device := r.UserAgent()
	device = strings.ReplaceAll(strings.ToValidUTF8(device[:min(len(device), maxDevice)], ""), "\x00", "")
	return audit.WithClient(ctx, audit.Client{Device: device, Address: grpcserver.PeerAddress(ctx)})
}

// passedOn is the address that a request comes from: of the peer, or, where that
// is a proxy, of whom it names as the one before it. What stands before somebody
// who is no proxy is anybody's word.
func (p Pages) passedOn(from netip.Addr, forwarded []string) netip.Addr {
	from = from.Unmap().WithZone("")
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for i := len(hops) - 1; i >= 0 && slices.ContainsFunc(p.Proxies,
		func(n netip.Prefix) bool { return n.Contains(from) }); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		from = hop.Unmap().WithZone("")
	}
	return from
}
