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
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

// Pages are the hosted sign-in. GET /oauth/{provider}/start?return_to=… redirects a
// browser to the provider. GET /oauth/callback receives the provider's response and
// redirects the browser to return_to with a login code.
//
// Both are bound to one browser by a cookie that scripts can't read (HttpOnly). Each
// sign-in has its own, so that several can run concurrently.
type Pages struct {
	OAuth    *oauth.Service
	Attempts *attempts.Limiter
	// Secure says that browsers reach the pages over https.
	Secure bool
	// Proxies are the networks of trusted reverse proxies, whose X-Forwarded-For
	// is believed.
	Proxies []netip.Prefix
	Log     *slog.Logger
}

// CallbackPath is the hosted pages' redirect URI under their base URL.
const CallbackPath = "/oauth/callback"

const cookieMaxAge = 300 // seconds, as long as a sign-in is valid

// Register adds the pages to mux.
func (p Pages) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /oauth/{provider}/start", p.start)
	mux.HandleFunc("GET "+CallbackPath, p.callback)
}

func (p Pages) start(w http.ResponseWriter, r *http.Request) {
	ctx := p.contextOf(r)
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
	http.SetCookie(w, p.cookie(started.State, started.Secret, cookieMaxAge))
	redirect(w, started.URL)
}

func (p Pages) callback(w http.ResponseWriter, r *http.Request) {
	ctx := p.contextOf(r)
	giveBack, err := p.Attempts.Take(ctx, grpcserver.PeerAddress(ctx), "")
	if err != nil {
		p.fail(ctx, w, err)
		return
	}
	q := r.URL.Query()
	c := oauth.Callback{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Error: q.Get("error")}
	if cookie, err := r.Cookie(p.cookie(c.State, "", 0).Name); err == nil {
		c.Secret = cookie.Value
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

// cookie returns the cookie of a sign-in. The prefix __Host- prevents other hosts of
// the domain from setting it; browsers accept that over https only.
func (p Pages) cookie(state, secret string, age int) *http.Cookie {
	h := sha256.Sum256([]byte(state))
	name := "purser-oauth-" + hex.EncodeToString(h[:8])
	if p.Secure {
		name = "__Host-" + name
	}
	return &http.Cookie{Name: name, Value: secret, Path: "/", MaxAge: age, HttpOnly: true, Secure: p.Secure,
		SameSite: http.SameSiteLaxMode}
}

// redirect redirects a browser without a Referer.
func redirect(w http.ResponseWriter, to string) {
	setPrivateHeaders(w)
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func setPrivateHeaders(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// fail renders an error for a browser that can't be redirected.
func (p Pages) fail(ctx context.Context, w http.ResponseWriter, err error) {
	err = postgres.Translate(err)
	status, text := http.StatusInternalServerError, "Something went wrong. Try again."
	if e := errs.As(err); e != nil && e.Kind != errs.KindInternal {
		status, text = statusOf(e.Kind), e.Message+" ("+e.Reason+")"
	}
	if status >= http.StatusInternalServerError {
		p.Log.WarnContext(ctx, "hosted sign-in failed", "error", err)
	}
	setPrivateHeaders(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	// This fails only if the client hung up.
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

// maxUserAgentBytes bounds the User-Agent that is recorded.
const maxUserAgentBytes = 200

// contextOf returns the context of a request with the peer and the audit.Client, as
// the interceptors of gRPC set them.
func (p Pages) contextOf(r *http.Request) context.Context {
	ctx := r.Context()
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from := netip.AddrPortFrom(p.clientAddress(at.Addr(), r.Header.Values("X-Forwarded-For")), at.Port())
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: net.TCPAddrFromAddrPort(from)})
	}
	userAgent := r.UserAgent()
	userAgent = strings.ToValidUTF8(userAgent[:min(len(userAgent), maxUserAgentBytes)], "")
	userAgent = strings.ReplaceAll(userAgent, "\x00", "")
	client := audit.Client{UserAgent: userAgent, IPAddress: grpcserver.PeerAddress(ctx)}
	return audit.WithClient(authority.Served(ctx), client)
}

// clientAddress returns the address of the client: that of the peer, or, as long as
// the address is one of a trusted proxy, the previous one in X-Forwarded-For.
// Anything before the first untrusted address could be forged.
func (p Pages) clientAddress(from netip.Addr, forwarded []string) netip.Addr {
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
