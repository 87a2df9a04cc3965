package app_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const (
	changeSubject    = "Confirm your new e-mail address"
	takenSubject     = "This e-mail address has an account"
	requestedSubject = "Another e-mail address was asked for"
	movedSubject     = "Your e-mail address was changed"
	fresh            = "ada@new.example"
)

func (s mailed) askChange(as context.Context, email string) error {
	_, err := s.accounts.RequestEmailChange(as, &authv1.RequestEmailChangeRequest{NewEmail: email})
	return err
}

func (s mailed) confirm(as context.Context, code string) error {
	_, err := s.accounts.ConfirmEmailChange(as, &authv1.ConfirmEmailChangeRequest{Code: code})
	return err
}

func (s mailed) as(t *testing.T, tokens *authv1.Tokens) context.Context {
	t.Helper()
	return grpcclient.WithToken(t.Context(), tokens.GetAccessToken())
}

func TestAnAddressIsChangedByTheCodeThatTheNewOneGot(t *testing.T) {
	s := startMailed(t, "PURSER_MAIL_LINKS_URL=https://app.example")
	s.registerVerified(t, ada)
	mine, other := s.login(t, ada), s.login(t, ada)
	me := s.as(t, mine)
	s.me(t, mine.GetAccessToken()) // cached now
	s.askReset(t, ada)
	reset := mailedCode(t, s.wait(t, ada, resetSubject, 1))
	e := want(t, s.askChange(me, " ADA@example.com"), errs.KindInvalid, "INVALID_ARGUMENT")
	if e.Violations[0].Field != "new_email" {
		t.Error(e.Violations)
	}
	want(t, s.askChange(me, "ada@"), errs.KindInvalid, "INVALID_ARGUMENT")
	want(t, s.askChange(me, ada), errs.KindInvalid, "INVALID_ARGUMENT")
	if err := s.askChange(me, "Ada@New.example"); err != nil {
		t.Fatal(err)
	}
	m := s.wait(t, fresh, changeSubject, 1)
	code := mailedCode(t, m)
	if !strings.Contains(m.Body, "https://app.example/change-email#token="+code) {
		t.Errorf("the mail says %q", m.Body)
	}
	if told := s.wait(t, ada, requestedSubject, 1); strings.Contains(told.Body, fresh) {
		t.Errorf("the old address is told the new one: %q", told.Body)
	}
	for purpose, err := range map[string]error{
		"verification": s.verify(t, code), "reset": s.complete(t, code, newPassword),
	} {
		if e := errs.As(err); e == nil || e.Reason != "CODE_INVALID" {
			t.Errorf("as a code of a %s: %v", purpose, err)
		}
	}
	resp, err := s.accounts.ConfirmEmailChange(me, &authv1.ConfirmEmailChangeRequest{Code: code})
	if err != nil || resp.GetEmail() != fresh {
		t.Fatal(resp, err)
	}
	if u := s.me(t, mine.GetAccessToken()); u.GetEmail() != fresh || !u.GetEmailVerified() {
		t.Error(u)
	}
	s.wait(t, ada, movedSubject, 1)
	s.wait(t, fresh, movedSubject, 1)
	want(t, s.confirm(me, code), errs.KindFailedPrecondition, "CODE_INVALID")
	want(t, s.complete(t, reset, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	_, err = s.tryLogin(t, ada, password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	s.login(t, fresh)
	if _, err := s.sessions.Refresh(t.Context(),
		&authv1.RefreshRequest{RefreshToken: mine.GetRefreshToken()}); err != nil {
		t.Errorf("the caller's session: %v", err)
	}
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: other.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	if events := s.events(t); !slices.Contains(events, "email.changed OK ") {
		t.Error(events)
	}
	s.register(t, ada) // the old address is free
	s.login(t, ada)
}

// Mallory asks to give Ada's address to an account of hers, and hopes that Ada follows the mail.
func TestACodeForAnAddressIsOfUseToTheAccountThatAskedForItOnly(t *testing.T) {
	s := startMailed(t)
	s.register(t, "mallory@example.com")
	s.register(t, "bob@example.com")
	mallory, bob := s.as(t, s.login(t, "mallory@example.com")), s.as(t, s.login(t, "bob@example.com"))
	if err := s.askChange(mallory, ada); err != nil {
		t.Fatal(err)
	}
	code := mailedCode(t, s.wait(t, ada, changeSubject, 1))
	want(t, s.confirm(bob, code), errs.KindFailedPrecondition, "CODE_INVALID")
	want(t, s.confirm(t.Context(), code), errs.KindUnauthenticated, "TOKEN_MISSING")
	if n := s.count(t, "mailed_codes WHERE purpose = 'CHANGE_EMAIL'"); n != 1 {
		t.Error("another account used up the code")
	}
	if err := s.confirm(mallory, code); err != nil { // the control
		t.Error(err)
	}
}

func TestNobodyLearnsWhetherANewAddressIsTaken(t *testing.T) {
	s := startMailed(t)
	s.registerVerified(t, "mallory@example.com")
	s.register(t, ada)
	mallory := s.as(t, s.login(t, "mallory@example.com"))
	if err := s.askChange(mallory, "mallory@new.example"); err != nil {
		t.Fatal(err)
	}
	before := mailedCode(t, s.wait(t, "mallory@new.example", changeSubject, 1))
	for n, email := range []string{ada, "nobody@example.com"} {
		if err := s.askChange(mallory, email); err != nil {
			t.Fatal(err)
		}
		// What mallory can see afterwards is the same: a notice, and the end of the code from before.
		s.wait(t, "mallory@example.com", requestedSubject, n+2)
		want(t, s.confirm(mallory, before), errs.KindFailedPrecondition, "CODE_INVALID")
	}
	if m := s.wait(t, ada, takenSubject, 1); codes.MatchString(m.Body) || strings.Contains(m.Body, "mallory") {
		t.Errorf("the owner's mail says %q", m.Body)
	}
	s.wait(t, "nobody@example.com", changeSubject, 1)
}

func TestAWalletsAccountGetsAnAddressAndThenAPassword(t *testing.T) {
	s := startMailed(t, "PURSER_REDIS_URL="+redisOf(t), "PURSER_SIWE_DOMAIN=app.example")
	tokens := s.signInWith(t, newWallet(t))
	me := s.as(t, tokens)
	want(t, s.change(me, "", newPassword), errs.KindFailedPrecondition, "EMAIL_REQUIRED")
	if err := s.askChange(me, ada); err != nil {
		t.Fatal(err)
	}
	if err := s.confirm(me, mailedCode(t, s.wait(t, ada, changeSubject, 1))); err != nil {
		t.Fatal(err)
	}
	if err := s.change(me, "", newPassword); err != nil {
		t.Fatal(err)
	}
	if _, err := s.tryLogin(t, ada, newPassword); err != nil {
		t.Error(err)
	}
	if u := s.me(t, tokens.GetAccessToken()); u.GetEmail() != ada || !u.GetEmailVerified() {
		t.Error(u)
	}
}

func TestANewAddressNeedsARecentSignInOfAPerson(t *testing.T) {
	s := startMailed(t)
	s.register(t, ada)
	tokens := s.login(t, ada)
	key, err := s.keys.ExchangeApiKey(t.Context(),
		&authv1.ExchangeApiKeyRequest{Key: s.apiKey(t, tokens.GetAccessToken())})
	if err != nil {
		t.Fatal(err)
	}
	asKey := grpcclient.WithToken(t.Context(), key.GetAccessToken())
	want(t, s.askChange(asKey, fresh), errs.KindPermissionDenied, "API_KEY_CALLER")
	want(t, s.confirm(asKey, "x"), errs.KindPermissionDenied, "API_KEY_CALLER")
	s.exec(t, "UPDATE sessions SET auth_time = now() - interval '11 minutes'")
	late, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	want(t, s.askChange(s.as(t, late.GetTokens()), fresh), errs.KindPermissionDenied, "REAUTHENTICATION_REQUIRED")
}

// Of those who want one address at the same moment one gets it; the others keep what they have, and their code.
func TestOneOfManyGetsAnAddress(t *testing.T) {
	s := startMailed(t)
	const rivals = 4
	for round := range 5 {
		target := fmt.Sprintf("target-%d@example.com", round)
		var ctx [rivals]context.Context
		var code [rivals]string
		for i := range rivals {
			email := fmt.Sprintf("rival-%d-%d@example.com", round, i)
			s.registerVerified(t, email)
			ctx[i] = s.as(t, s.login(t, email))
			if err := s.askChange(ctx[i], target); err != nil {
				t.Fatal(err)
			}
			code[i] = mailedCode(t, s.wait(t, target, changeSubject, i+1))
		}
		var results [rivals + 1]error
		var wg sync.WaitGroup
		for i := range rivals {
			wg.Go(func() { results[i] = s.confirm(ctx[i], code[i]) })
		}
		wg.Go(func() {
			_, results[rivals] = s.accounts.Register(t.Context(), &authv1.RegisterRequest{Email: target,
				Password: password})
		})
		wg.Wait()
		got := 0
		for i, err := range results[:rivals] {
			if err == nil {
				got++
				continue
			}
			want(t, err, errs.KindAlreadyExists, "EMAIL_TAKEN")
			email := fmt.Sprintf("rival-%d-%d@example.com", round, i)
			if n := s.count(t, "users u JOIN mailed_codes c ON c.user_id = u.id JOIN sessions s ON s.user_id = u.id "+
				"WHERE s.revoked_at IS NULL AND purpose = 'CHANGE_EMAIL' AND email = '"+email+"'"); n != 1 {
				t.Errorf("%s has lost something", email)
			}
		}
		if n := s.count(t, "users WHERE email = '"+target+"'"); n != 1 || got > 1 || results[rivals] != nil {
			t.Fatalf("%d accounts have the address, %d got it, %v", n, got, results)
		}
	}
}

func TestAMailboxGetsFiveMailsAnHourHoweverManyAccountsAskForIt(t *testing.T) {
	s := startMailed(t)
	var all []context.Context
	for i := range 8 {
		email := fmt.Sprintf("mallory-%d@example.com", i)
		s.register(t, email)
		all = append(all, s.as(t, s.login(t, email)))
	}
	var wg sync.WaitGroup
	for _, as := range all {
		wg.Go(func() {
			if err := s.askChange(as, fresh); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.count(t, "mails WHERE kind = 'change_email'"); n != 5 {
		t.Errorf("%d mails to one mailbox", n)
	}
	for i := range 8 { // and an account asks for so many
		if err := s.askChange(all[0], fmt.Sprintf("many-%d@example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.count(t, "mails WHERE kind = 'change_email' AND user_id = (SELECT id FROM users "+
		"WHERE email = 'mallory-0@example.com')"); n != 5 {
		t.Errorf("%d mails of one account", n)
	}
}
