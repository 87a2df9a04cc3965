package dependency

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/pkg/redisx"
)

// Error is a failed check whose reason is known.
type Error struct {
	Reason string // UPPER_SNAKE
	Err    error
}

// Failed returns an Error.
func Failed(reason string, err error) error { return &Error{reason, err} }

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Describe returns the reason of a failed check, in UPPER_SNAKE, and its text without
// secrets.
func Describe(err error, secrets []string) (reason, text string) {
	reason = reasonOf(err)
	text = strings.Join(strings.Fields(redact.Error(err, secrets...).Error()), " ") // some have several lines
	return reason, strings.TrimPrefix(text, reason+": ")
}

func reasonOf(err error) string {
	var known *Error
	if errors.As(err, &known) {
		return known.Reason
	}
	if e := errs.As(err); e != nil {
		if e.Kind == errs.KindDeadline {
			return "TIMEOUT"
		}
		return e.Reason
	}
	if reason := networkReason(err); reason != "" {
		return reason
	}
	if reason := postgres.Reason(err); reason != "" {
		return reason
	}
	if errors.Is(err, redisx.ErrMode) {
		return "REDIS_MODE"
	}
	var answer redis.Error
	if errors.As(err, &answer) {
		word, _, _ := strings.Cut(answer.Error(), " ")
		if word == "NOAUTH" || word == "WRONGPASS" || word == "NOPERM" {
			return "CREDENTIALS"
		}
		return "REDIS_" + strings.Map(onlyLetters, word)
	}
	return "ERROR"
}

// onlyLetters is for strings.Map: what the other side sends becomes part of a code.
func onlyLetters(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r
	}
	return -1
}

// networkReason is "" for an error that is not of the network.
func networkReason(err error) string {
	var network net.Error
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.As(err, &name):
		return "NAME_NOT_FOUND"
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &unknown),
		errors.As(err, &host):
		return "TLS"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "REFUSED"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout(),
		status.Code(err) == codes.DeadlineExceeded:
		return "TIMEOUT"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed):
		return "CONNECTION_LOST"
	case status.Code(err) == codes.Unavailable:
		return "UNAVAILABLE"
	}
	return ""
}
