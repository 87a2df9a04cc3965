package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// sessions refuses to refresh with an error.
type sessions struct {
	authv1.SessionServiceClient
	refusal error
}

func (s sessions) Refresh(context.Context, *authv1.RefreshRequest, ...grpc.CallOption) (*authv1.RefreshResponse,
	error) {
	return nil, s.refusal
}

func TestARefreshThatFails(t *testing.T) {
	reused := errs.Unauthenticated("REFRESH_TOKEN_REUSED", "")
	away := errs.Unavailable("AWAY", "")
	wrong := errs.Unauthenticated("INVALID_CREDENTIALS", "")
	for name, tt := range map[string]struct {
		refusal, login error
		want           string // the reason
		logins         int    // in three attempts
		keeps          bool   // the refresh token
	}{
		"because auth is away keeps the session":     {refusal: away, want: "AWAY", keeps: true},
		"because the session ended begins a new one": {refusal: reused, logins: 1, keeps: true},
		"and whose password is refused is final": {refusal: reused, login: wrong, want: "INVALID_CREDENTIALS",
			logins: 1},
		"and whose sign-in finds auth away goes on":   {refusal: reused, login: away, want: "AWAY", logins: 3},
		"without a way to begin anew ends it for all": {refusal: reused, logins: -1, want: "REFRESH_TOKEN_REUSED"},
	} {
		t.Run(name, func(t *testing.T) {
			logins := 0
			s := &session{auth: sessions{refusal: tt.refusal}, refreshToken: "r1"}
			if tt.logins >= 0 {
				s.signIn = func(context.Context) (*authv1.Tokens, error) {
					logins++
					return &authv1.Tokens{AccessToken: "t", RefreshToken: "r2"}, tt.login
				}
			}
			for range 3 {
				_, _, err := s.issue(t.Context())
				if e := errs.As(err); tt.want != "" && (e == nil || e.Reason != tt.want) ||
					tt.want == "" && err != nil {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				if err == nil {
					break
				}
			}
			if logins != max(tt.logins, 0) || (s.refreshToken != "") != tt.keeps {
				t.Errorf("%d sign-ins, refresh token %q", logins, s.refreshToken)
			}
		})
	}
}

func TestARefusedSecretIsNotTriedAgainForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		issue := rememberRefusal(func(context.Context) (string, time.Time, error) {
			calls++
			return "", time.Time{}, errs.Unauthenticated("SERVICE_SECRET_INVALID", "")
		})
		for range 60 {
			if _, _, err := issue(t.Context()); !errs.Is(err, errs.KindUnauthenticated) {
				t.Fatal(err)
			}
			<-time.After(time.Second)
		}
		if calls != 2 {
			t.Errorf("%d calls in a minute", calls)
		}
	})
}

// signsIn notes the device tokens that it is sent, and returns the next one.
type signsIn struct {
	authv1.SessionServiceClient
	devices []string
}

func (s *signsIn) Login(_ context.Context, req *authv1.LoginRequest, _ ...grpc.CallOption) (*authv1.LoginResponse,
	error) {
	s.devices = append(s.devices, req.GetDeviceToken())
	return &authv1.LoginResponse{DeviceToken: "of this device", Tokens: &authv1.Tokens{AccessToken: "t",
		AccessExpireTime: timestamppb.New(time.Now().Add(time.Hour))}}, nil
}

func TestTheNextSignInSendsTheDeviceTokenOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := &signsIn{}
		tokens, err := Password("ada@example.com", "secret")(&Clients{Sessions: auth})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := tokens.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Hour) // by the clock of synctest; the token has expired
		}
		if len(auth.devices) != 2 || auth.devices[0] != "" || auth.devices[1] != "of this device" {
			t.Errorf("sent %q", auth.devices)
		}
	})
}
