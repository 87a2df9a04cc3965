package mail

import (
	"context"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/purserhq/purser/pkg/config"
)

// smtpTimeout bounds sending one mail.
const smtpTimeout = 20 * time.Second

// Config of the SMTP server and the mails. Without Addr mails stay in the outbox.
type Config struct {
	Addr     string        `env:"SMTP_ADDR"` // host:port
	User     string        `env:"SMTP_USER"`
	Password config.Secret `env:"SMTP_PASSWORD"`
	// TLS is starttls, tls (implicit TLS) or none.
	TLS string `env:"SMTP_TLS" envDefault:"starttls"`
	// From is the sender, for example "Purser <no-reply@example.com>".
	From string `env:"SMTP_FROM"`
	// Attempts after which a mail is given up; 8 take about two hours.
	Attempts int `env:"SMTP_ATTEMPTS" envDefault:"8"`
	// Links is the base URL of the pages that links with one-time codes open.
	Links string `env:"MAIL_LINKS_URL"`
	// PerHour is the maximal number of mails of one kind to one account in an
	// hour.
	PerHour int `env:"MAIL_PER_HOUR" envDefault:"5"`
	// NoticesOff are the notices that are not mailed, by their names; see Notices.
	NoticesOff []Kind `env:"NOTICE_MAILS_OFF"`
}

// Validate returns every invalid setting of c as one error.
func (c Config) Validate() error {
	var failures []error
	invalid := func(format string, args ...any) { failures = append(failures, fmt.Errorf(format, args...)) }
	if c.Addr == "" && (c.User != "" || c.Password != "" || c.From != "") {
		invalid("PURSER_SMTP_ADDR is needed by the other PURSER_SMTP_*")
	}
	if c.Addr != "" {
		if _, _, err := c.server(); err != nil {
			invalid("PURSER_SMTP_ADDR must be host:port")
		}
		if from, err := netmail.ParseAddress(c.From); err != nil || !sendable(from.Address) {
			invalid("PURSER_SMTP_FROM must be an e-mail address, with a name or without")
		}
	}
	if (c.User == "") != (c.Password == "") {
		invalid("PURSER_SMTP_USER and PURSER_SMTP_PASSWORD go together")
	}
	if c.TLS != "starttls" && c.TLS != "tls" && c.TLS != "none" {
		invalid("PURSER_SMTP_TLS must be starttls, tls or none")
	}
	if c.TLS == "none" && c.User != "" {
		invalid("PURSER_SMTP_TLS=none would send PURSER_SMTP_PASSWORD in the clear")
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		invalid("PURSER_SMTP_ATTEMPTS must be 1 to 100")
	}
	if c.PerHour < 1 {
		invalid("PURSER_MAIL_PER_HOUR must be at least 1")
	}
	for _, k := range c.NoticesOff {
		if !slices.Contains(Notices(), k) {
			invalid("PURSER_NOTICE_MAILS_OFF must name notices, of %s; got %q", noticeNames(), k)
		}
	}
	if c.Links != "" && !config.IsHTTPURL(c.Links) {
		invalid("PURSER_MAIL_LINKS_URL must be an http or https URL")
	}
	return errors.Join(failures...)
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

// NewSMTP returns a transport for a configuration that passed Validate.
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
		gomail.WithPort(port), gomail.WithTimeout(smtpTimeout), gomail.WithoutSMTPUTF8(),
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

// Send implements Transport, on a new connection.
func (s *SMTP) Send(ctx context.Context, m Mail) error {
	if !sendable(m.To) {
		return &RefusedError{"the receiver is not a valid ASCII e-mail address"}
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(&netmail.Address{Address: m.To})
	msg.Subject(strings.Map(dropControl, m.Subject))
	msg.SetDate()
	_, domain, _ := strings.Cut(s.from.Address, "@")
	msg.SetMessageIDWithValue(m.ID.String() + "@" + domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	msg.SetBodyString(gomail.TypeTextPlain, m.Body)
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, smtpTimeout)
	defer cancel()
	return withoutReceiver(client.DialAndSendWithContext(ctx, msg))
}

// Probe connects to the server, signs in if there is a user, and sends nothing.
func (s *SMTP) Probe(ctx context.Context) error {
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	return client.Close()
}

// withoutReceiver reduces a server's error to codes, because its text can contain
// the receiver's address.
func withoutReceiver(err error) error {
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

// validAddress is HTML5's syntax of an e-mail address, which the API uses too. It
// allows nothing that could end a header or an SMTP command.
var validAddress = regexp.MustCompile(`^[a-zA-Z0-9.!#$%&'*+/=?^_{|}~` + "`" + `-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*$`)

func sendable(to string) bool { return len(to) <= 254 && validAddress.MatchString(to) }

// dropControl is for strings.Map: it removes control characters, which could end
// a header.
func dropControl(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}
