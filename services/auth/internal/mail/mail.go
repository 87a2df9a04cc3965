// Package mail sends transactional e-mails to the owners of accounts, in plain
// text, from an outbox in the database.
//
// It promises: a mail is queued in the transaction of the change that it reports.
// After the commit it is sent at least once, usually within a second, or given up
// after a configured number of attempts, with a metric and a log event; then its
// receiver and content are erased. The receiver's address is the only text chosen
// by a user, so that mails can't be abused to send foreign content.
//
// Limits: an attempt with an unknown result is repeated, so a mail can arrive
// twice, with the same Message-ID. Addresses are ASCII: an internationalised
// domain in its xn-- form, no internationalised local part (RFC 6531).
package mail

import (
	"embed"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
)

// Kind of a mail; its text is texts/<kind>.txt.
type Kind string

// The kinds. All concern the security of an account, so none can be disabled.
const (
	VerifyEmail       Kind = "verify_email"
	ResetPassword     Kind = "reset_password"
	RegistrationTried Kind = "registration_tried"
	PasswordChanged   Kind = "password_changed"
	AccountDeleted    Kind = "account_deleted"
	AcceptInvitation  Kind = "accept_invitation"
	// KeepSecondFactor says that an administrator wants to remove the second factor.
	KeepSecondFactor Kind = "keep_second_factor"
)

func kinds() []Kind {
	return []Kind{VerifyEmail, ResetPassword, RegistrationTried, PasswordChanged, AccountDeleted, AcceptInvitation,
		KeepSecondFactor}
}

// Mail is one mail.
type Mail struct {
	ID   uuid.UUID
	Kind Kind
	// User is the owner of the account, zero when the account was deleted.
	User              uuid.UUID
	To, Subject, Body string
}

// Data are the values that the templates insert; each kind uses some of them.
type Data struct {
	// Token is a one-time code: 256 random bits in base64url.
	Token string
	At    time.Time
}

//go:embed texts/*.txt
var files embed.FS

// Texts renders the templates of mails. It is safe for concurrent use.
type Texts struct {
	byKind map[Kind]*template.Template
	links  string
}

// NewTexts parses the templates. links is the base URL of the product's pages, to
// which /<kind>#token=<code> is appended; with "" mails contain the code alone.
func NewTexts(links string) (*Texts, error) {
	t := &Texts{byKind: map[Kind]*template.Template{}, links: strings.TrimRight(links, "/")}
	for _, k := range kinds() {
		text, err := files.ReadFile("texts/" + string(k) + ".txt")
		if err != nil {
			return nil, fmt.Errorf("mail text: %w", err)
		}
		if t.byKind[k], err = template.New(string(k)).Option("missingkey=error").Parse(string(text)); err != nil {
			return nil, fmt.Errorf("mail text: %w", err)
		}
	}
	return t, nil
}

// Mail renders a mail of a kind. User and To are left to the store, which reads
// the account.
func (t *Texts) Mail(kind Kind, d Data) (Mail, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Mail{}, fmt.Errorf("new mail id: %w", err)
	}
	view := struct{ Token, Link, At string }{d.Token, "", d.At.UTC().Format("2 January 2006 at 15:04 UTC")}
	if t.links != "" && d.Token != "" {
		// A fragment is not sent to servers, so the code appears in no log.
		view.Link = t.links + "/" + strings.ReplaceAll(string(kind), "_", "-") + "#token=" + url.QueryEscape(d.Token)
	}
	var b strings.Builder
	if err := t.byKind[kind].Execute(&b, view); err != nil {
		return Mail{}, fmt.Errorf("mail text: %w", err)
	}
	subject, body, _ := strings.Cut(b.String(), "\n")
	return Mail{ID: id, Kind: kind, Subject: subject, Body: body}, nil
}
