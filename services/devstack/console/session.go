package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const (
	// maxSessions are kept; signing in ends the session that was used least recently beyond it.
	maxSessions = 64
	// sessionIdle is how long a session stays without a request.
	sessionIdle = 12 * time.Hour
	// signOutTimeout bounds ending a session at auth.
	signOutTimeout = 2 * time.Second
)

// sessions holds who has signed in on the page. A browser has only the random id of its session, in a cookie; the
// tokens stay here. It is safe for concurrent use.
type sessions struct {
	mu  sync.Mutex
	now func() time.Time
	// by the hash of the id, so that looking one up takes no time that depends on the id.
	byID map[[sha256.Size]byte]*session
}

type session struct {
	viewer *viewer
	usedAt time.Time
}

func newSessions() *sessions {
	return &sessions{now: time.Now, byID: map[[sha256.Size]byte]*session{}}
}

// add starts a session and returns its id, and the viewers whose sessions it has ended.
func (s *sessions) add(v *viewer) (id string, ended []*viewer) {
	id = rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	ended = s.sweep(maxSessions - 1)
	s.byID[sha256.Sum256([]byte(id))] = &session{viewer: v, usedAt: s.now()}
	return id, ended
}

// sweep removes the sessions that were not used for sessionIdle, and the least recently used beyond limit.
func (s *sessions) sweep(limit int) []*viewer {
	var ended []*viewer
	for key, old := range s.byID {
		if s.now().Sub(old.usedAt) > sessionIdle {
			ended = append(ended, old.viewer)
			delete(s.byID, key)
		}
	}
	for len(s.byID) > limit {
		var oldest [sha256.Size]byte
		for key, one := range s.byID {
			if found := s.byID[oldest]; found == nil || one.usedAt.Before(found.usedAt) {
				oldest = key
			}
		}
		ended = append(ended, s.byID[oldest].viewer)
		delete(s.byID, oldest)
	}
	return ended
}

// get returns the viewer of a session; nil if there is none.
func (s *sessions) get(id string) *viewer {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byID[sha256.Sum256([]byte(id))]
	if found == nil || s.now().Sub(found.usedAt) > sessionIdle {
		return nil
	}
	found.usedAt = s.now()
	return found.viewer
}

// remove ends a session and returns its viewer; nil if there was none.
func (s *sessions) remove(id string) *viewer {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(id))
	found := s.byID[key]
	if found == nil {
		return nil
	}
	delete(s.byID, key)
	return found.viewer
}

// removeAll ends all sessions and returns their viewers.
func (s *sessions) removeAll() []*viewer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweep(0)
}

// cookieName has the port, because browsers send the cookies of a host to all its ports.
func (c *Console) cookieName() string {
	_, port, _ := net.SplitHostPort(c.listener.Addr().String())
	return "purser_console_" + port
}

// viewerOf returns whose portfolio a request sees: that of who has signed in, else the demo's; nil if there is
// neither.
func (c *Console) viewerOf(r *http.Request) *viewer {
	if cookie, err := r.Cookie(c.cookieName()); err == nil {
		if v := c.signedIn.get(cookie.Value); v != nil {
			return v
		}
	}
	return c.demo
}

// setCookie stores the id of a session in the browser until it is closed; "" removes it.
func (c *Console) setCookie(w http.ResponseWriter, id string) {
	age := 0
	if id == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure: the page has no TLS, and no other machine reaches it
		Name: c.cookieName(), Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: age,
	})
}

// signInForm is what the form shows: what was typed, without the secrets, and why it was refused.
type signInForm struct {
	Email, Error string
	// Field that the error is about: "email", "password", "code" or "".
	Field string
}

// signIn answers the form with a session of the account, whose tokens it gets from auth.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form can't be read: it is larger than 8 KiB or not a form", http.StatusBadRequest)
		return
	}
	form := signInForm{Email: strings.TrimSpace(r.PostForm.Get("email"))}
	password, code := r.PostForm.Get("password"), strings.TrimSpace(r.PostForm.Get("code"))
	ctx, cancel := context.WithTimeout(withoutTrace(r.Context()), grpcclient.DefaultTimeout)
	defer cancel()
	resp, err := authv1.NewSessionServiceClient(c.services.auth).Login(ctx,
		&authv1.LoginRequest{Email: form.Email, Password: password, SecondFactorCode: code,
			DeviceToken: c.deviceToken(r)})
	if err != nil {
		var status int
		form.Error, form.Field, status = refusal(err)
		c.renderPage(w, r, form, status)
		return
	}
	c.signOutOf(r)
	id, ended := c.signedIn.add(c.services.newViewer(form.Email, "", resp.GetTokens()))
	c.endAll(ended)
	c.setCookie(w, id)
	c.setDeviceToken(w, resp.GetDeviceToken())
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// deviceToken returns the device token that the browser has stored; "" if there is none that auth would read.
func (c *Console) deviceToken(r *http.Request) string {
	cookie, err := r.Cookie(c.cookieName() + "_device")
	if err != nil || len(cookie.Value) > 128 {
		return ""
	}
	return cookie.Value
}

// setDeviceToken stores the device token of a sign-in in the browser for as long as auth knows the device. Signing out
// leaves it.
func (c *Console) setDeviceToken(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure: the page has no TLS, and no other machine reaches it
		Name: c.cookieName() + "_device", Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		MaxAge: 90 * 24 * 60 * 60,
	})
}

// refusal says why a sign-in failed, the field that it is about, and the HTTP status.
func refusal(err error) (text, field string, status int) {
	e := errs.As(err)
	switch {
	case e == nil || errs.Is(err, errs.KindUnavailable) || errs.Is(err, errs.KindDeadline):
		return "auth is unavailable: try again in a moment", "", http.StatusServiceUnavailable
	case e.Reason == "TOTP_REQUIRED":
		return "This account has a second factor: enter the password again, and the code of the authenticator app " +
			"or a recovery code.", "code", http.StatusUnauthorized
	case e.Reason == "TOTP_INVALID":
		return "The second factor code is wrong or was used before.", "code", http.StatusUnauthorized
	case errs.Is(err, errs.KindInvalid):
		if len(e.Violations) == 0 {
			return errorText(err), "", http.StatusBadRequest
		}
		first := e.Violations[0]
		input := strings.Replace(first.Field, "second_factor_code", "code", 1) // the name of the field of the form
		return first.Field + ": " + first.Rule, input, http.StatusBadRequest
	case errs.Is(err, errs.KindExhausted):
		return errorText(err), "", http.StatusTooManyRequests
	}
	return errorText(err), "password", http.StatusUnauthorized
}

// signOut answers the button: it ends the session here and at auth.
func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	c.signOutOf(r)
	c.setCookie(w, "")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// signOutOf ends the session of a request, if it has one.
func (c *Console) signOutOf(r *http.Request) {
	if cookie, err := r.Cookie(c.cookieName()); err == nil {
		if v := c.signedIn.remove(cookie.Value); v != nil {
			c.endAll([]*viewer{v})
		}
	}
}

// endAll ends sessions at auth, as far as it answers: the page has forgotten the tokens in any case.
func (c *Console) endAll(viewers []*viewer) {
	ctx, cancel := context.WithTimeout(withoutTrace(context.Background()), signOutTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, v := range viewers {
		all.Go(func() {
			if err := v.end(ctx, c.services); err != nil && !errors.Is(err, errSessionEnded) {
				c.log.Warn("console: a session can't be ended", "error", err)
			}
		})
	}
	all.Wait()
}
