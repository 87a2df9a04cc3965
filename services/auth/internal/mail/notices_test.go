package mail_test

import (
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

func TestAnOwnerIsToldOfWhatWasDoneAndNotOfWhatWasRefused(t *testing.T) {
	told := map[audit.Type]mail.Kind{
		"account.reclaimed": "address_confirmed", "account.password_changed": "password_changed",
		"account.password_reset": "password_changed", "email.changed": "email_changed",
		"second_factor.confirmed": "second_factor_enabled", "second_factor.disabled": "second_factor_disabled",
		"second_factor.recovery_code_used":      "recovery_code_used",
		"second_factor.recovery_codes_renewed":  "recovery_codes_renewed",
		"identity.linked":                       "identity_linked",
		"identity.unlinked":                     "identity_unlinked",
		"api_key.created":                       "api_key_created",
		"session.new_device":                    "new_device",
		"session.login":                         "",
		"api_key.revoked":                       "",
		"account.email_verified":                "",
		"second_factor.enrolled":                "",
		"account.password_reset_requested":      "",
		"an event that this program never made": "",
	}
	for event, kind := range told {
		if got, ok := mail.NoticeOf(audit.Event{Type: event, Outcome: audit.OK}); got != kind || ok != (kind != "") {
			t.Errorf("%s: %q, %v", event, got, ok)
		}
		if got, ok := mail.NoticeOf(audit.Event{Type: event, Outcome: audit.Refused}); ok {
			t.Errorf("a refused %s: %q", event, got)
		}
	}
	if got, ok := mail.NoticeOf(audit.Event{Type: audit.IdentityLinked, Reason: "ACCOUNT_CREATED"}); ok {
		t.Errorf("the sign-in that makes an account: %q", got)
	}
}

func TestANoticeSaysWhenAndFromWhereAndIsPlain(t *testing.T) {
	texts, err := mail.NewTexts("https://app.example")
	if err != nil {
		t.Fatal(err)
	}
	subjects := map[string]bool{}
	for _, kind := range mail.Notices() {
		t.Run(string(kind), func(t *testing.T) {
			at := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
			m, err := texts.Mail(kind, mail.Data{At: at, From: "192.0.2.7", Details: []string{"the password"}})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(m.Body, "1 March 2026 at 12:30 UTC, from the address 192.0.2.7.") ||
				strings.Contains(m.Body, "for an hour") || strings.Contains(m.Body, "http") ||
				strings.Contains(m.Body, "<no value>") || strings.Contains(m.Body, "\n\n\n") || m.Subject == "" ||
				subjects[m.Subject] {
				t.Errorf("%s: %q", m.Subject, m.Body)
			}
			subjects[m.Subject] = true
			last, err := texts.Mail(kind, mail.Data{At: at, From: "192.0.2.7", ByAdmin: true, Last: true})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(last.Body, "by an administrator.") || strings.Contains(last.Body, "192.0.2.7") ||
				!strings.Contains(last.Body, "for an hour no other mail tells you") {
				t.Errorf("%q", last.Body)
			}
			for _, body := range []string{m.Body, last.Body} {
				for line := range strings.Lines(body) {
					if len(line) > 110 {
						t.Errorf("a long line: %q", line)
					}
				}
			}
		})
	}
}
