package mail

import (
	"context"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"regexp"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/purserhq/purser/pkg/config"
)

// patience with the SMTP server over one mail.
const patience = 20 * time.Second

// Config of the SMTP server, and of what mails say. Without an address mails
// wait in the outbox.
type Config struct {
	Addr     string        `env:"SMTP_ADDR"` // host:port
	User     string        `env:"SMTP_USER"`
	Password config.Secret `env:"SMTP_PASSWORD"`
	// TLS is starttls, tls (from the first byte on) or none.
	TLS string `env:"SMTP_TLS" envDefault:"starttls"`
	// From is the sender, for example "Purser <no-reply@example.com>".
	From string `env:"SMTP_FROM"`
	// Attempts after which a mail is given up: with 8, some two hours.
	Attempts int `env:"SMTP_ATTEMPTS" envDefault:"8"`
	// Links is the base URL of the pages that one-time codes are opened with.
	Links string `env:"MAIL_LINKS_URL"`
	// PerHour is how many mails of one kind an account is sent in an hour.
	PerHour int `env:"MAIL_PER_HOUR" envDefault:"5"`
}

// Validate reports every mistake in c.
func (c Config) Validate() error {
	var mistakes []error
	say := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if c.Addr == "" && (c.User != "" || c.Password != "" || c.From != "") {
		say("PURSER_SMTP_ADDR is needed by the other PURSER_SMTP_*")
	}
	if c.Addr != "" {
		if _, _, err := c.server(); err != nil {
			say("PURSER_SMTP_ADDR must be host:port")
		}
		if from, err := netmail.ParseAddress(c.From); err != nil || !sendable(from.Address) {
			say("PURSER_SMTP_FROM must be an e-mail address, with a name or without")
		}
	}
	if (c.User == "") != (c.Password == "") {
		say("PURSER_SMTP_USER and PURSER_SMTP_PASSWORD go together")
	}
	if c.TLS != "starttls" && c.TLS != "tls" && c.TLS != "none" {
		say("PURSER_SMTP_TLS must be starttls, tls or none")
	}
	if c.TLS == "none" && c.User != "" {
		say("PURSER_SMTP_TLS=none would send PURSER_SMTP_PASSWORD in the clear")
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		say("PURSER_SMTP_ATTEMPTS must be 1 to 100")
	}
	if c.PerHour < 1 {
		say("PURSER_MAIL_PER_HOUR must be at least 1")
	}
	if c.Links != "" && !config.IsHTTPURL(c.Links) {
		say("PURSER_MAIL_LINKS_URL must be an http or https URL")
	}
	return errors.Join(mistakes...)
}

func (c Config) server() (host string, port int, err error) {
	host, text, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 || host == "" {
		return "", 0, errors.New("no port")
	}
	return host, port, nil
}

// SMTP sends mails to one server. It is safe for concurrent use.
type SMTP struct {
	host    string
	options []gomail.Option
	from    *netmail.Address
}

// NewSMTP returns a carrier for a configuration that is valid.
func NewSMTP(c Config) (*SMTP, error) {
	host, port, err := c.server()
	if err != nil {
		return nil, fmt.Errorf("PURSER_SMTP_ADDR: %w", err)
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("PURSER_SMTP_FROM: %w", err)
	}
	s := &SMTP{host: host, from: from, options: []gomail.Option{
		gomail.WithPort(port), gomail.WithTimeout(patience), gomail.WithoutSMTPUTF8(),
	}}
	switch c.TLS {
	case "tls":
		s.options = append(s.options, gomail.WithSSL())
	case "starttls":
		s.options = append(s.options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		s.options = append(s.options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if c.User != "" {
		s.options = append(s.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(c.User), gomail.WithPassword(c.Password.Reveal()))
	}
	return s, nil
}

// Carry implements Carrier, on a connection of its own.
func (s *SMTP) Carry(ctx context.Context, m Mail) error {
	if !sendable(m.To) {
		return &RefusedError{"the address is none that a mail can be sent to"}
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(&netmail.Address{Address: m.To})
	msg.Subject(strings.Map(oneLine, m.Subject))
	msg.SetDate()
	_, domain, _ := strings.Cut(s.from.Address, "@")
	msg.SetMessageIDWithValue(m.ID.String() + "@" + domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	msg.SetBodyString(gomail.TypeTextPlain, m.Body)
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return plain(client.DialAndSendWithContext(ctx, msg))
}

// plain leaves of a server's answer what can't name the receiver.
func plain(err error) error {
	var answer *gomail.SendError
	if !errors.As(err, &answer) {
		return err
	}
	text := fmt.Sprintf("smtp: %s: %d %s", answer.Reason, answer.ErrorCode(), answer.EnhancedStatusCode())
	if answer.Reason == gomail.ErrSMTPRcptTo && answer.ErrorCode() >= 500 {
		return &RefusedError{text}
	}
	return errors.New(text)
}

// address is what contracts take for one (HTML5's), so nothing that could end a
// header or a command.
var address = regexp.MustCompile(`^[a-zA-Z0-9.!#$%&'*+/=?^_{|}~` + "`" + `-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*$`)

func sendable(to string) bool { return len(to) <= 254 && address.MatchString(to) }

// oneLine drops what would end a header.
func oneLine(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}
