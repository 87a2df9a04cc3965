// Package mail sends transactional e-mails to the owners of accounts, in plain
// text, from an outbox in the database.
//
// It promises: a mail is queued in the transaction of the change that it reports.
// After the commit it is sent at least once, usually within a second, or given up
// after a configured number of attempts, with a metric and a log event; then its
// receiver and content are erased. The receiver's address is the only text chosen
// by a user, so that mails can't be abused to send foreign content. Notices tell the
// owner of an account what was done to it, see NoticeOf.
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

// The kinds that are not notices; none can be disabled.
const (
	VerifyEmail          Kind = "verify_email"
	ResetPassword        Kind = "reset_password"
	RegistrationTried    Kind = "registration_tried"
	ChangeEmail          Kind = "change_email"
	EmailChangeTried     Kind = "email_change_tried"
	EmailChangeRequested Kind = "email_change_requested"
	AccountDeleted       Kind = "account_deleted"
	CancelDeletion       Kind = "cancel_deletion"
	AcceptInvitation     Kind = "accept_invitation"
	// KeepSecondFactor says that an administrator wants to remove the second factor.
	KeepSecondFactor Kind = "keep_second_factor"
)

func kinds() []Kind {
	return append([]Kind{VerifyEmail, ResetPassword, RegistrationTried, ChangeEmail, EmailChangeTried,
		EmailChangeRequested, AccountDeleted, CancelDeletion, AcceptInvitation, KeepSecondFactor}, Notices()...)
}

// Mail is one mail.
type Mail struct {
	ID   uuid.UUID
	Kind Kind
	// User is the owner of the account, zero when the account was deleted.
	User              uuid.UUID
	To, Subject, Body string
	// PerMailbox says that it goes to an address that is not the account's, or that
	// nobody has proven, and counts against the limit of that address, whoever asked
	// for it and also when the account is deleted.
	PerMailbox bool
}

// Data are the values that the templates insert; each kind uses some of them.
type Data struct {
	// Token is a one-time code: 256 random bits in base64url.
	Token string
	At    time.Time
	// From is the client's address that a call came from, empty when unknown.
	From string
	// ByAdmin says that somebody else than the owner did it.
	ByAdmin bool
	// Details are lines in words of this program.
	Details []string
	// Last says that no more mails of the kind are sent for a while.
	Last bool
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
		parsed, err := template.New(string(k)+".txt").Option("missingkey=error").ParseFS(files,
			"texts/"+string(k)+".txt", "texts/notice.txt")
		if err != nil {
			return nil, fmt.Errorf("mail text: %w", err)
		}
		t.byKind[k] = parsed
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
	view := struct {
		Data
		Link, At string
	}{d, "", d.At.UTC().Format("2 January 2006 at 15:04 UTC")}
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
