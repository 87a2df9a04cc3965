package app_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// quiet are the methods that mustn't tell by their time whether an address has
// an account. token is of somebody who asks for another's.
func quiet(s service, token string) map[string]func(ctx context.Context, email string) error {
	return map[string]func(context.Context, string) error{
		"Login": func(ctx context.Context, email string) error {
			_, err := s.sessions.Login(ctx, &authv1.LoginRequest{Email: email, Password: "not the password"})
			if !errs.Is(err, errs.KindUnauthenticated) {
				return fmt.Errorf("login answered %w", err)
			}
			return nil
		},
		"Register": func(ctx context.Context, email string) error {
			_, err := s.accounts.Register(ctx, &authv1.RegisterRequest{Email: email, Password: password})
			return err
		},
		"ResendVerification": func(ctx context.Context, email string) error {
			_, err := s.accounts.ResendVerification(ctx, &authv1.ResendVerificationRequest{Email: email})
			return err
		},
		"RequestPasswordReset": func(ctx context.Context, email string) error {
			_, err := s.accounts.RequestPasswordReset(ctx, &authv1.RequestPasswordResetRequest{Email: email})
			return err
		},
		"RequestEmailChange": func(ctx context.Context, email string) error {
			_, err := s.accounts.RequestEmailChange(grpcclient.WithToken(ctx, token),
				&authv1.RequestEmailChangeRequest{NewEmail: email})
			return err
		},
	}
}

// timed calls a method n times each for an address that has an account and for
// ones that have none, in turns, some at once, and returns how long each took.
func timed(t *testing.T, call func(context.Context, string) error, n, atOnce int, prefix string) (known,
	unknown []float64) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for i := range n / atOnce {
				for turn := range 2 { // as many of both at any moment
					email, into := "ada@example.com", &known
					if (turn+i+worker)%2 == 1 {
						email, into = fmt.Sprintf("%s-%d-%d@example.com", prefix, worker, i), &unknown
					}
					begun := time.Now()
					err := call(t.Context(), email)
					// So many at once find no connection within 2 s on a slow machine.
					for again := 0; again < 10 && errs.Is(err, errs.KindUnavailable); again++ {
						begun = time.Now()
						err = call(t.Context(), email)
					}
					took := time.Since(begun).Seconds()
					mu.Lock()
					if err != nil {
						t.Error(err)
					}
					*into = append(*into, took)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return known, unknown
}

// auc is the chance that one of b took longer than one of a (Mann and Whitney,
// 1947): 0.5 when neither can be told from the other, and its standard error
// when that is so.
func auc(a, b []float64) (area, deviation float64) {
	type sample struct {
		took float64
		ofB  bool
	}
	var all []sample
	for _, x := range a {
		all = append(all, sample{x, false})
	}
	for _, x := range b {
		all = append(all, sample{x, true})
	}
	slices.SortFunc(all, func(x, y sample) int { return cmp.Compare(x.took, y.took) })
	ranks := 0.0
	for i, s := range all {
		if s.ofB {
			ranks += float64(i + 1)
		}
	}
	n, m := float64(len(a)), float64(len(b))
	return (ranks - m*(m+1)/2) / (n * m), math.Sqrt((n + m + 1) / (12 * n * m))
}

// The account's hash is one of bcrypt, for an old one has to be covered too. The
// control has no floor, nor a mail server, which would be busy with the mail of
// the call before.
func TestResponseTimesDoNotRevealWhetherAnAddressHasAnAccount(t *testing.T) {
	old, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost) // faster than the decoy
	if err != nil {
		t.Fatal(err)
	}
	settings := []string{
		"PURSER_PASSWORD_HASHES_AT_ONCE=16", "PURSER_MAIL_PER_HOUR=1000000",
		"PURSER_ATTEMPTS_PER_ADDRESS=100000", "PURSER_ATTEMPTS_PER_ACCOUNT=100000",
	}
	// Each floor is above what its slowest answer takes: those that hash take longer.
	const hashing, mailing = 1500 * time.Millisecond, 750 * time.Millisecond
	held := map[time.Duration]service{}
	for _, floor := range []time.Duration{hashing, mailing} {
		held[floor] = startMailed(t, append(settings, "PURSER_AUTH_FLOOR="+floor.String())...).service
	}
	bare := start(t, settings...)
	for _, s := range []service{held[hashing], held[mailing], bare} {
		s.register(t, "ada@example.com")
		s.exec(t, "UPDATE users SET password_hash = $1", string(old))
		s.register(t, "bob@example.com")
	}
	for _, tc := range []struct {
		method           string
		floor            time.Duration
		atOnce, controls int // no control where hashing covers what differs
	}{
		{"Login", hashing, 8, 16},
		{"Register", hashing, 8, 0},
		{"ResendVerification", mailing, 40, 200},
		{"RequestPasswordReset", mailing, 40, 200},
		{"RequestEmailChange", mailing, 10, 0}, // either is a mail
	} {
		t.Run(tc.method, func(t *testing.T) {
			n := testkit.Size(2*tc.atOnce, 1000)
			s := held[tc.floor]
			token := s.login(t, "bob@example.com").GetAccessToken()
			known, unknown := timed(t, quiet(s, token)[tc.method], n, tc.atOnce, "held")
			area, deviation := auc(known, unknown)
			least := min(slices.Min(known), slices.Min(unknown))
			testkit.Figure(t, "%d calls each: AUC %.3f (0.5 ± %.3f is chance), fastest %.0f ms", len(known), area,
				deviation, least*1000)
			if math.Abs(area-0.5) > 4*deviation {
				t.Errorf("known and unknown addresses are told apart: AUC %.3f", area)
			}
			if least < tc.floor.Seconds() {
				t.Errorf("answered after %.3fs", least)
			}
			if tc.controls == 0 {
				return
			}
			token = bare.login(t, "bob@example.com").GetAccessToken()
			known, unknown = timed(t, quiet(bare, token)[tc.method], tc.controls, 1, "bare")
			area, deviation = auc(known, unknown)
			testkit.Figure(t, "without the floor, %d calls each: AUC %.3f (0.5 ± %.3f is chance)", len(known), area,
				deviation)
			if math.Abs(area-0.5) < 3*deviation {
				t.Errorf("the control tells nothing: AUC %.3f", area)
			}
		})
	}
}

func TestInvalidInputAndARightPasswordAreAnsweredAtOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	s := startMailed(t, "PURSER_AUTH_FLOOR=5s")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	_, err := s.accounts.Register(ctx, &authv1.RegisterRequest{Email: "ada@example.com",
		Password: "123456789123456789"})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	s.register(t, "ada@example.com")
	ctx, cancel = context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if _, err := s.sessions.Login(ctx, &authv1.LoginRequest{Email: "ada@example.com",
		Password: password}); err != nil {
		t.Fatal(err)
	}
}

func TestTheFloorDoesNotOccupyTheHasher(t *testing.T) {
	t.Parallel() // it mostly waits
	s := startMailed(t, "PURSER_AUTH_FLOOR=5s", "PURSER_PASSWORD_HASHES_AT_ONCE=1")
	s.register(t, "ada@example.com")
	held, begun := make(chan error, 1), time.Now()
	go func() { held <- s.guess(t, "ada@example.com") }()
	testkit.Eventually(t, 4*time.Second, func() bool {
		return s.count(t,
			"audit_events WHERE outcome = 'REFUSED'") == 1
	})
	s.login(t, "ada@example.com") // with the one turn that there is
	want(t, <-held, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	if took := time.Since(begun); took < 5*time.Second {
		t.Errorf("answered after %s", took)
	}
}
