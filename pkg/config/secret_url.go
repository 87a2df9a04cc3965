package config

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// URL is the URL of a server, with a password. It prints with the password masked, with
// every verb of package fmt, in JSON and in logs, so that the rest can be read:
// postgres://user:***@host:5432/database. One that doesn't read like a URL prints as
// "***". Use Reveal where the URL itself is needed.
//
// Limits: those of Secret. A password in the path is shown.
type URL string

// String returns the URL with its password masked.
func (u URL) String() string { return maskPassword(string(u)) }

// Format masks the password for every verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// MarshalText masks the password for encoders and slog.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Reveal returns the URL itself.
func (u URL) Reveal() string { return string(u) }

const masked = "***"

var (
	// hosts is a list of host and port: what is left of an authority without its user.
	hosts = regexp.MustCompile(`^(\[[0-9A-Fa-f:.%]*\]|[\w.%-]*)(:\d*)?(,(\[[0-9A-Fa-f:.%]*\]|[\w.%-]*)(:\d*)?)*$`)
	// secretParameter matches names of parameters whose values are masked.
	secretParameter = regexp.MustCompile(`(?i)pass|secret|token`)
)

// maskPassword masks more rather than less: all that could be a part of a password that
// wasn't escaped.
func maskPassword(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return strings.Repeat(masked, min(len(address), 1))
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, servers := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		name, _, hasPassword := strings.Cut(authority[:i], ":")
		user, servers = name+"@", authority[i+1:]
		switch {
		case hasPassword:
			user = name + ":" + masked + "@"
		case strings.HasPrefix(scheme, "redis"): // where some put a password alone
			user = masked + "@"
		}
	}
	if !hosts.MatchString(servers) || strings.ContainsAny(tail, "@#") {
		return masked
	}
	path, query, _ := strings.Cut(tail, "?")
	var parameters []string
	for p := range strings.SplitSeq(query, "&") {
		if name, _, ok := strings.Cut(p, "="); ok && secretParameter.MatchString(name) {
			p = name + "=" + masked
		}
		parameters = append(parameters, p)
	}
	shown := scheme + "://" + user + servers + path
	if query != "" {
		shown += "?" + strings.Join(parameters, "&")
	}
	return shown
}
