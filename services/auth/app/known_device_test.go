package app_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// from returns the service as a client at another address of this machine calls it.
func (s service) from(t testing.TB, address string) service {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: s.addr, Plaintext: true, Timeout: time.Minute}, nil,
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.accounts, s.sessions = authv1.NewAccountServiceClient(conn), authv1.NewSessionServiceClient(conn)
	return s
}

// sign signs in with a password, a device token and a second factor code, each of which may be empty.
func (s service) sign(t testing.TB, email, password, device, code string) (*authv1.LoginResponse, error) {
	t.Helper()
	return s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password, DeviceToken: device,
		SecondFactorCode: code})
}

func (s service) device(t testing.TB, email string) string {
	t.Helper()
	resp, err := s.sign(t, email, password, "", "")
	if err != nil || resp.GetDeviceToken() == "" || len(resp.GetDeviceToken()) > 128 {
		t.Fatalf("device token %q, %v", resp.GetDeviceToken(), err)
	}
	return resp.GetDeviceToken()
}

// useUp guesses until the attempts on an account have been used up.
func (s service) useUp(t *testing.T, email string) {
	t.Helper()
	for {
		if err := s.guess(t, email); errs.Is(err, errs.KindExhausted) {
			return
		} else if !errs.Is(err, errs.KindUnauthenticated) {
			t.Fatal(err)
		}
	}
}

func TestStrangersDoNotKeepOutWhoHasSignedInBefore(t *testing.T) {
	s := start(t)
	home, stranger, elsewhere := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3"), s.from(t, "127.0.1.4")
	home.register(t, "ada@example.com")
	home.register(t, "eve@example.com")
	device := home.device(t, "ada@example.com")
	foreign := stranger.device(t, "eve@example.com")
	raw, err := base64.RawURLEncoding.DecodeString(device)
	if err != nil {
		t.Fatal(err)
	}
	raw[3] ^= 1
	forged := base64.RawURLEncoding.EncodeToString(raw)

	stranger.useUp(t, "ada@example.com")
	for name, token := range map[string]string{"none": "", "another account's": foreign, "a forged one": forged} {
		_, err := elsewhere.sign(t, "ada@example.com", password, token, "") // the control
		if want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS"); err == nil {
			t.Errorf("with %s", name)
		}
	}
	again, err := elsewhere.sign(t, "ada@example.com", password, device, "")
	if err != nil || again.GetDeviceToken() != device {
		t.Fatalf("the known device got %q, %v", again.GetDeviceToken(), err)
	}
	if _, err := elsewhere.sign(t, "ada@example.com", password, "", ""); err != nil {
		t.Errorf("without the token, from where it has signed in last: %v", err)
	}
	_, err = elsewhere.sign(t, "ada@example.com", "not the password", device, "")
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") // the device's own count
	_, err = elsewhere.sign(t, "ada@example.com", "not the password", "", "")
	want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS") // what strangers are answered
}

func TestWhoStoleADeviceTokenGuessesInItsOwnCount(t *testing.T) {
	s := start(t)
	home, thief := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3")
	home.register(t, "ada@example.com")
	stolen := home.device(t, "ada@example.com")
	wrong, limited := 0, false
	for !limited {
		_, err := thief.sign(t, "ada@example.com", "not the password", stolen, "")
		if limited = errs.Is(err, errs.KindExhausted); !limited {
			want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
			wrong++
		}
	}
	if wrong < 10 || wrong > 12 { // 5 of the device and 5 of strangers; a slow machine refills some
		t.Errorf("%d guesses were let through", wrong)
	}
	if _, err := home.sign(t, "ada@example.com", password, "", ""); err != nil {
		t.Errorf("the owner, from their address: %v", err)
	}
}

func TestADeviceIsForgottenWithTheSessions(t *testing.T) {
	for name, forget := range map[string]func(s service, ctx context.Context, session string) error{
		"LogoutAll": func(s service, ctx context.Context, _ string) error {
			_, err := s.sessions.LogoutAll(ctx, &authv1.LogoutAllRequest{})
			return err
		},
		"RevokeSession": func(s service, ctx context.Context, session string) error {
			_, err := s.sessions.RevokeSession(ctx, &authv1.RevokeSessionRequest{SessionId: session})
			return err
		},
		"ChangePassword": func(s service, ctx context.Context, _ string) error {
			_, err := s.accounts.ChangePassword(ctx,
				&authv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword})
			return err
		},
		"Logout": func(s service, ctx context.Context, _ string) error { // the control
			_, err := s.sessions.Logout(ctx, &authv1.LogoutRequest{})
			return err
		},
		"its last sign-in was 90 days ago": func(s service, ctx context.Context, _ string) error {
			_, err := s.db.SQL().ExecContext(ctx,
				"UPDATE known_devices SET expires_at = expires_at - interval '90 days'")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			phone, laptop, stranger := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3"), s.from(t, "127.0.1.4")
			phone.register(t, "ada@example.com")
			on, err := phone.sign(t, "ada@example.com", password, "", "")
			if err != nil {
				t.Fatal(err)
			}
			by := laptop.login(t, "ada@example.com").GetAccessToken()
			if name == "Logout" {
				by = on.GetTokens().GetAccessToken()
			}
			session := claims(t, on.GetTokens().GetAccessToken()).SessionID
			if err := forget(laptop, grpcclient.WithToken(t.Context(), by), session); err != nil {
				t.Fatal(err)
			}
			stranger.useUp(t, "ada@example.com")
			now := password
			if name == "ChangePassword" {
				now = newPassword
			}
			_, err = phone.sign(t, "ada@example.com", now, on.GetDeviceToken(), "")
			if name == "Logout" {
				if err != nil {
					t.Errorf("after signing out: %v", err)
				}
				return
			}
			want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS")
		})
	}
}

// Somebody guesses at two accounts after another all the time, from the address that the owners of 28 others share.
func TestOwnersBehindOneAddressSignInWhileSomebodyThereGuesses(t *testing.T) {
	const owners = 28
	s := start(t)
	office := s.from(t, "127.0.1.9")
	email := func(i int) string { return fmt.Sprintf("owner%d@example.com", i) }
	tokens := make([]string, owners)
	for i := range owners {
		s.from(t, fmt.Sprintf("127.0.2.%d", i+1)).register(t, email(i))
		if i%2 == 0 { // and the others have never signed in
			tokens[i] = s.from(t, fmt.Sprintf("127.0.2.%d", i+1)).device(t, email(i))
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var guessers sync.WaitGroup
	var wrong atomic.Int32
	for range 60 { // the address has none left
		_, err := office.accounts.VerifyEmail(ctx, &authv1.VerifyEmailRequest{Code: "no code of ours"})
		want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
	}
	for g := range 2 {
		guessers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := office.sessions.Login(ctx, &authv1.LoginRequest{
					Email: fmt.Sprintf("victim%d-%d@example.com", g, n/5), Password: "not the password"})
				if errs.Is(err, errs.KindUnauthenticated) {
					wrong.Add(1)
				}
			}
		})
	}
	defer guessers.Wait()
	defer stop()
	testkit.Eventually(t, time.Minute, func() bool { return wrong.Load() >= 2 })
	var all errgroup.Group
	all.SetLimit(4)
	var took [owners]time.Duration
	for i := range owners {
		all.Go(func() error {
			begun := time.Now()
			_, err := office.sign(t, email(i), password, tokens[i], "")
			if took[i] = time.Since(begun); err != nil {
				return fmt.Errorf("%s, device %t: %w", email(i), tokens[i] != "", err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	var known, unknown time.Duration
	for i := range owners {
		if tokens[i] != "" {
			known = max(known, took[i])
		} else {
			unknown = max(unknown, took[i])
		}
	}
	testkit.Figure(t, "%d owners sign in behind an address with 2 guessers, none is refused: known devices "+
		"within %s, unknown ones within %s; %d wrong passwords were checked", owners, known.Round(time.Millisecond),
		unknown.Round(time.Millisecond), wrong.Load())
}

func TestASignInFromANewDeviceAndAddressIsRecorded(t *testing.T) {
	s := start(t)
	home, work := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3")
	recorded := func(n int, when string) {
		t.Helper()
		if got := s.count(t, "audit_events WHERE type = 'session.new_device'"); got != n {
			t.Errorf("%s: %d events, want %d", when, got, n)
		}
	}
	home.register(t, "ada@example.com")
	device := home.device(t, "ada@example.com")
	recorded(0, "the first sign-in")
	home.login(t, "ada@example.com")
	recorded(0, "a known address")
	if _, err := work.sign(t, "ada@example.com", password, device, ""); err != nil {
		t.Fatal(err)
	}
	recorded(0, "a known device at a new address")
	cafe := s.from(t, "127.0.1.4")
	in := cafe.login(t, "ada@example.com")
	recorded(1, "a new device at a new address")
	list, err := s.sessions.ListSessions(grpcclient.WithToken(t.Context(), in.GetAccessToken()),
		&authv1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 4 {
		t.Fatal(list, err)
	}
	sessions := list.GetSessions() // the newest first
	if sessions[0].GetDeviceId() == "" || sessions[0].GetDeviceId() == sessions[1].GetDeviceId() ||
		sessions[1].GetDeviceId() != sessions[3].GetDeviceId() {
		t.Errorf("sessions of devices %v", sessions)
	}
	home.register(t, "bob@example.com")
	s.exec(t, "UPDATE users SET created_at = created_at - interval '25 hours' WHERE email = 'bob@example.com'")
	home.login(t, "bob@example.com")
	recorded(2, "the first sign-in to an account that is older than a day")
}

func TestOnlyTheDevicesThatSignedInLastAreKnown(t *testing.T) {
	s := start(t)
	s.from(t, "127.0.1.200").register(t, "ada@example.com")
	for i := range 23 {
		s.from(t, fmt.Sprintf("127.0.1.%d", i+1)).device(t, "ada@example.com")
	}
	if n := s.count(t, "known_devices"); n != 20 {
		t.Errorf("%d devices are known", n)
	}
	if n := s.count(t, "known_devices WHERE ip_address IN ('127.0.1.1', '127.0.1.2', '127.0.1.3')"); n != 0 {
		t.Errorf("%d of the oldest are", n)
	}
}
