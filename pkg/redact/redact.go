// Package redact takes secrets out of what is logged or answered about calls to
// others: API keys stand in the user info, the path or the query of their URLs,
// and net/http puts the URL into every error.
//
// It promises: of a URL only the scheme and the host are shown; a *url.Error is
// shown without its URL; a text that is named as secret is not shown, nor its
// percent-encoded forms, nor the parts of a secret URL; a text is MaxText bytes
// at most and valid UTF-8, whatever the other side sent.
//
// Limits: a secret that nobody names is found only inside a URL. Parts of a
// secret URL that are shorter than minPart bytes are taken for words, not for
// keys. A key in a host name is shown.
package redact

import (
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	// MaxText bounds a text of Error, in bytes, the sign that it was cut included.
	MaxText = 300
	// minPart is the length in bytes from which on a part of a secret URL is
	// looked for by itself: "v2" and "rpc" are no keys.
	minPart = 6
	// mask stands for a secret.
	mask = "***"
	cut  = "…"
)

// URL returns the scheme and the host of a URL, with its port; a mask when it
// has none of these.
func URL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return mask
	}
	return u.Scheme + "://" + u.Host
}

// Error returns an error with the text of err, less its secrets: URLs, the
// requests' own included, and secrets, each of them a text or a URL. errors.Is
// finds what it finds in err; errors.As does not, for an error of net/http has
// the URL in a field. It is nil for nil.
func Error(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text, urls := withoutRequests(err)
	text = urlPattern.ReplaceAllStringFunc(text, func(found string) string {
		// What ends a sentence, or a part of one, is not the URL's.
		end := strings.TrimRight(found, ".,:;!?)]}")
		return URL(strings.ReplaceAll(end, `\/`, "/")) + found[len(end):]
	})
	text = masker(secrets, urls).Replace(text)
	end := ""
	if len(text) > MaxText {
		text, end = text[:MaxText-len(cut)], cut
	}
	return &redacted{text: strings.ToValidUTF8(text, "") + end, err: err}
}

// redacted is err with another text. It has no Unwrap: what it hides would be
// shown by whoever looks inside.
type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }

// Is reports whether err, or an error that it wraps, is target.
func (r *redacted) Is(target error) bool { return errors.Is(r.err, target) }

// urlPattern finds URLs in a text, also as JSON with escaped slashes has them.
var urlPattern = regexp.MustCompile("[A-Za-z][A-Za-z0-9+.-]*:(?://|\\\\/\\\\/)(?:\\\\/|[^\\s\"'<>`\\\\])+")

// withoutRequests returns the text of err in which each *url.Error, at whatever
// depth, stands without its URL, and these URLs.
func withoutRequests(err error) (text string, urls []string) {
	text = err.Error()
	var visit func(error)
	visit = func(err error) {
		if failed, ok := err.(*url.Error); ok && failed.Err != nil { //nolint:errorlint // each level is looked at
			text = strings.ReplaceAll(text, failed.Error(), strings.ToLower(failed.Op)+": "+failed.Err.Error())
			urls = append(urls, failed.URL)
		}
		switch wrapper := err.(type) { //nolint:errorlint // each level is looked at
		case interface{ Unwrap() error }:
			if inner := wrapper.Unwrap(); inner != nil {
				visit(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range wrapper.Unwrap() {
				visit(inner)
			}
		}
	}
	visit(err)
	return text, urls
}

// masker replaces secrets and their encoded forms, the longest first.
func masker(secrets, urls []string) *strings.Replacer {
	var found []string
	for _, s := range secrets {
		if s != "" {
			found = append(found, encodings(s)...)
		}
	}
	for _, s := range slices.Concat(secrets, urls) {
		for _, part := range parts(s) {
			if len(part) >= minPart {
				found = append(found, encodings(part)...)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(found))
	for _, s := range found {
		pairs = append(pairs, s, mask)
	}
	return strings.NewReplacer(pairs...)
}

// parts returns what of a URL may be a key: its user info, also as in a header
// of Basic authentication, its path and query, whole and in pieces, and its
// fragment. Of a URL that doesn't parse it is every piece, for url.Parse quotes
// some of them in its error. Nothing for a text that is no URL.
func parts(text string) []string {
	u, err := url.Parse(text)
	if err != nil {
		_, rest, _ := strings.Cut(text, "://")
		return pieces(rest)
	}
	if u.Host == "" {
		return nil
	}
	found := []string{u.RequestURI(), u.EscapedPath(), u.RawQuery}
	found = append(found, pieces(u.EscapedFragment())...)
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		found = append(found, pieces(segment)...)
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, hasValue := strings.Cut(pair, "=")
		if !hasValue {
			value = name
		}
		found = append(found, pieces(value)...)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		found = append(found, u.User.Username(), password, u.User.String(), basic)
	}
	return found
}

// pieces returns a part of a URL, whole and divided at the delimiters of RFC
// 3986, section 2.2, each as it is and decoded.
func pieces(part string) []string {
	isDelimiter := func(r rune) bool { return strings.ContainsRune(":/?#[]@!$&'()*+,;=", r) }
	var found []string
	for _, whole := range []string{part, decoded(part, url.PathUnescape), decoded(part, url.QueryUnescape)} {
		found = append(found, whole)
		found = append(found, strings.FieldsFunc(whole, isDelimiter)...)
	}
	return found
}

// decoded returns a part of a URL decoded, or as it is if it is malformed.
func decoded(part string, decode func(string) (string, error)) string {
	if text, err := decode(part); err == nil {
		return text
	}
	return part
}

// percent is a percent-encoded byte.
var percent = regexp.MustCompile("%[0-9A-F]{2}")

// encodings returns a secret as it may stand in a text: itself, and
// percent-encoded for a path or a query, in digits of either case.
func encodings(secret string) []string {
	out := []string{secret}
	for _, encoded := range []string{url.PathEscape(secret), url.QueryEscape(secret)} {
		out = append(out, encoded, percent.ReplaceAllStringFunc(encoded, strings.ToLower))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
