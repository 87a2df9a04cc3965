// Package mail tells the owners of accounts what they have to know, by e-mail
// in plain text.
//
// It promises: a mail that was queued in the transaction of a change is sent at
// least once after its commit, within about a second while the SMTP server
// takes it, or is given up after a set number of attempts, with a metric and a
// log event; what it said and to whom is erased with that. Nothing that a user
// chose stands in a mail but the address it goes to, so no mail carries another
// one's words.
//
// Limits: an attempt whose end isn't known is repeated, so a mail may come
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

// The kinds. All concern the safety of an account, so none can be turned off.
const (
	VerifyEmail       Kind = "verify_email"
	ResetPassword     Kind = "reset_password"
	RegistrationTried Kind = "registration_tried"
	PasswordChanged   Kind = "password_changed"
	AccountDeleted    Kind = "account_deleted"
)

func kinds() []Kind {
	return []Kind{VerifyEmail, ResetPassword, RegistrationTried, PasswordChanged, AccountDeleted}
}

// Mail is one mail.
type Mail struct {
	ID   uuid.UUID
	Kind Kind
	// User is whose account it is about, zero when that is gone.
	User              uuid.UUID
	To, Subject, Body string
}

// Data is what a text has places for; a kind uses some of it.
type Data struct {
	// Token is a one-time code: 256 random bits in base64url.
	Token string
	At    time.Time
}

//go:embed texts/*.txt
var files embed.FS

// Texts makes mails of their texts.
type Texts struct {
	byKind map[Kind]*template.Template
	links  string
}

// NewTexts reads the texts. links is the base URL of the product's pages, to
// which a one-time code is added as /<kind>#token=<code>; "" for mails with the
// code alone.
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

// Mail returns a mail of a kind. Whom it goes to is left to the store, which
// knows the account that it is about.
func (t *Texts) Mail(kind Kind, d Data) (Mail, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Mail{}, fmt.Errorf("new mail id: %w", err)
	}
	view := struct{ Token, Link, At string }{d.Token, "", d.At.UTC().Format("2 January 2006 at 15:04 UTC")}
	if t.links != "" && d.Token != "" {
		// In the fragment it is sent to no server and stands in no log.
		view.Link = t.links + "/" + strings.ReplaceAll(string(kind), "_", "-") + "#token=" + url.QueryEscape(d.Token)
	}
	var b strings.Builder
	if err := t.byKind[kind].Execute(&b, view); err != nil {
		return Mail{}, fmt.Errorf("mail text: %w", err)
	}
	subject, body, _ := strings.Cut(b.String(), "\n")
	return Mail{ID: id, Kind: kind, Subject: subject, Body: body}, nil
}
