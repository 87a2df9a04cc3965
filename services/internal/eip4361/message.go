// Package eip4361 reads and writes messages of EIP-4361 (Sign-In with Ethereum), which a
// wallet shows before it signs them, and compares with the page that asks.
package eip4361

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/services/internal/ethsig"
)

// Message is an EIP-4361 message. The address and the times keep their original text,
// so that String returns exactly what Parse read.
type Message struct {
	// Scheme before the domain; empty when there is none.
	Scheme, Domain string
	Address        ethsig.Address
	addressText    string // as it was read; "" for Address with its checksum
	// Statement is nil when there is none.
	Statement *string
	URI       string
	Version   string
	ChainID   uint64
	Nonce     string
	IssuedAt  Time
	// The following fields are optional: nil when absent.
	Expires, NotBefore *Time
	RequestID          *string
	Resources          []string
	// HasResources distinguishes an empty list from an absent one.
	HasResources bool
}

// Time is an RFC 3339 time with its original text.
type Time struct {
	time.Time
	text string
}

// NewTime returns t in UTC, truncated to seconds.
func NewTime(t time.Time) Time {
	t = t.UTC().Truncate(time.Second)
	return Time{t, t.Format(time.RFC3339)}
}

// String returns the original text.
func (t Time) String() string { return t.text }

const (
	maxMessage = 8 << 10
	greeting   = " wants you to sign in with your Ethereum account:"
)

// String returns the text that is signed.
func (m Message) String() string {
	var b strings.Builder
	if m.Scheme != "" {
		b.WriteString(m.Scheme + "://")
	}
	address := m.addressText
	if address == "" {
		address = m.Address.String()
	}
	b.WriteString(m.Domain + greeting + "\n" + address + "\n\n")
	if m.Statement != nil {
		b.WriteString(*m.Statement + "\n")
	}
	b.WriteString("\nURI: " + m.URI + "\nVersion: " + m.Version + "\nChain ID: " + strconv.FormatUint(m.ChainID, 10) +
		"\nNonce: " + m.Nonce + "\nIssued At: " + m.IssuedAt.String())
	if m.Expires != nil {
		b.WriteString("\nExpiration Time: " + m.Expires.String())
	}
	if m.NotBefore != nil {
		b.WriteString("\nNot Before: " + m.NotBefore.String())
	}
	if m.RequestID != nil {
		b.WriteString("\nRequest ID: " + *m.RequestID)
	}
	if m.HasResources {
		b.WriteString("\nResources:")
		for _, r := range m.Resources {
			b.WriteString("\n- " + r)
		}
	}
	return b.String()
}

// Parse reads a message of at most 8 KiB strictly by the ABNF of EIP-4361, but for
// an address without a checksum (all in one case), which some wallets write and
// EIP-4361 forbids. String of the result returns the same bytes. The error says which
// rule is violated, and may be shown to the caller.
func Parse(text string) (Message, error) {
	if len(text) > maxMessage {
		return Message{}, errors.New("must have at most 8192 bytes")
	}
	p := parser{lines: strings.Split(text, "\n")}
	m := p.message()
	if p.err != nil {
		return Message{}, p.err
	}
	return m, nil
}

// parser reads line by line. Only the first error is kept.
type parser struct {
	lines []string
	err   error
}

func (p *parser) fail(rule string) {
	if p.err == nil {
		p.err = errors.New(rule)
	}
}

// next consumes a line; false at the end.
func (p *parser) next() (string, bool) {
	if len(p.lines) == 0 {
		return "", false
	}
	line := p.lines[0]
	p.lines = p.lines[1:]
	return line, true
}

func (p *parser) blank() {
	if line, ok := p.next(); !ok || line != "" {
		p.fail("must have an empty line after the address, and one before the URI")
	}
}

// field consumes "name: value" and returns the value.
func (p *parser) field(name string) string {
	line, _ := p.next()
	value, ok := strings.CutPrefix(line, name+": ")
	if !ok {
		p.fail(name + " must be there, in the order of EIP-4361")
	}
	return value
}

// option is field for an optional one; false when the next line is another.
func (p *parser) option(name string) (string, bool) {
	if len(p.lines) == 0 || !strings.HasPrefix(p.lines[0], name+": ") {
		return "", false
	}
	return p.field(name), true
}

func (p *parser) message() Message {
	var m Message
	p.head(&m)
	p.blank()
	if len(p.lines) > 0 && p.lines[0] != "" {
		statement, _ := p.next()
		if strings.Trim(statement, statementChars) != "" {
			p.fail("the statement must consist of characters of a URI and spaces")
		}
		m.Statement = &statement
	}
	p.blank()
	if m.URI = p.field("URI"); !IsURI(m.URI) {
		p.fail("URI must be one of RFC 3986")
	}
	if m.Version = p.field("Version"); m.Version != "1" {
		p.fail("Version must be 1")
	}
	chain := p.field("Chain ID")
	id, err := strconv.ParseUint(chain, 10, 63)
	if err != nil || strconv.FormatUint(id, 10) != chain {
		p.fail("Chain ID must be a decimal number without leading zeros")
	}
	m.ChainID = id
	if m.Nonce = p.field("Nonce"); len(m.Nonce) < 8 || strings.Trim(m.Nonce, alphanumeric) != "" {
		p.fail("Nonce must be eight letters and digits or more")
	}
	m.IssuedAt = p.time("Issued At", p.field("Issued At"))
	p.options(&m)
	return m
}

func (p *parser) head(m *Message) {
	line, _ := p.next()
	origin, ok := strings.CutSuffix(line, greeting)
	if !ok {
		p.fail("the first line must end with" + greeting)
	}
	m.Domain = origin
	if scheme, domain, ok := strings.Cut(origin, "://"); ok {
		m.Scheme, m.Domain = scheme, domain
		if !isScheme(scheme) {
			p.fail("the scheme must be one of RFC 3986")
		}
	}
	if !IsAuthority(m.Domain) {
		p.fail("the domain must be an authority of RFC 3986")
	}
	line, _ = p.next()
	address, err := ethsig.ParseAddress(line)
	if err != nil {
		p.fail("the address " + err.Error())
	}
	m.Address, m.addressText = address, line
}

func (p *parser) options(m *Message) {
	if text, ok := p.option("Expiration Time"); ok {
		t := p.time("Expiration Time", text)
		m.Expires = &t
	}
	if text, ok := p.option("Not Before"); ok {
		t := p.time("Not Before", text)
		m.NotBefore = &t
	}
	if id, ok := p.option("Request ID"); ok {
		if !isEscaped(id, unreserved+subDelims+":@") {
			p.fail("Request ID must be of the characters of a path segment")
		}
		m.RequestID = &id
	}
	if len(p.lines) > 0 && p.lines[0] == "Resources:" {
		_, _ = p.next()
		m.HasResources = true
		for len(p.lines) > 0 && p.err == nil {
			line, _ := p.next()
			resource, ok := strings.CutPrefix(line, "- ")
			if !ok || !IsURI(resource) {
				p.fail("each resource must be a URI of RFC 3986 after a dash and a space")
			}
			m.Resources = append(m.Resources, resource)
		}
	}
	if len(p.lines) > 0 {
		p.fail("must end after the fields of EIP-4361, in their order")
	}
}

// time parses an RFC 3339 date-time. time.Parse alone is too lax: it accepts a comma
// before the fraction and hours of one digit.
func (p *parser) time(name, text string) Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !isDateTime(text) {
		p.fail(name + " must be a date and time of RFC 3339")
	}
	return Time{t, text}
}

// isDateTime checks the syntax that time.Parse is lax about.
func isDateTime(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || strings.ContainsAny(s, ",") {
		return false
	}
	for i, like := range "2006-01-02T15:04:05" {
		digit := s[i] >= '0' && s[i] <= '9'
		if (like >= '0' && like <= '9') != digit || !digit && rune(s[i]) != like {
			return false
		}
	}
	zone := strings.TrimLeft(strings.TrimPrefix(s[19:], "."), "0123456789")
	if zone == "Z" {
		return true
	}
	return len(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':' && zone[1:3] < "24" &&
		zone[4:] < "60"
}

// Characters of RFC 3986.
const (
	alphanumeric   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	unreserved     = alphanumeric + "-._~"
	subDelims      = "!$&'()*+,;="
	statementChars = unreserved + subDelims + ":/?#[]@ "
)

// isEscaped reports whether s consists of these characters and percent-encoded ones.
func isEscaped(s, chars string) bool {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			i += 2
		case !strings.Contains(chars, s[i:i+1]):
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func isScheme(s string) bool {
	return s != "" && strings.Trim(s, alphanumeric+"+-.") == "" && strings.Trim(s[:1], alphanumeric[:52]) == ""
}

// IsAuthority reports whether s is host or host:port by RFC 3986. User information,
// which RFC 3986 allows, is refused: in a message to sign it only deceives.
func IsAuthority(s string) bool {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok := strings.Cut(rest, "]")
		return ok && host != "" && strings.Trim(host, "0123456789abcdefABCDEF:.") == "" &&
			(port == "" || port[0] == ':' && isPort(port[1:]))
	}
	host, port, _ := strings.Cut(s, ":")
	return host != "" && isEscaped(host, unreserved+subDelims) && isPort(port)
}

func isPort(s string) bool { return strings.Trim(s, "0123456789") == "" }

// IsURI reports whether s is a URI of RFC 3986.
func IsURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) || !isEscaped(rest, unreserved+subDelims+":/?#[]@") || strings.Count(rest, "#") > 1 {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && (u.Host != "" || !strings.HasPrefix(rest, "//"))
}
