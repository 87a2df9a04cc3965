package chain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

const (
	// maxNodesTold is of how many nodes an error says what is wrong with them.
	maxNodesTold = 8
	// maxNodeText bounds what of a node's own words an error repeats, in bytes.
	maxNodeText = 200
)

// redirectError is about a node that redirects to another URL.
// target is nil where it is not known.
type redirectError struct{ target *url.URL }

func (e *redirectError) Error() string {
	if e.target == nil {
		return "the node redirects, which is not followed"
	}
	return "the node redirects to " + redact.URL(e.target.String()) + ", which is not followed"
}

// retryAfterError is about a node that asked to be left alone.
type retryAfterError struct{ until time.Time }

func (e *retryAfterError) Error() string {
	return "the node asked not to be called until " + e.until.UTC().Format(time.RFC3339)
}

// failure is why a node could not be read from.
type failure struct {
	*node
	reason chainlist.Reason
	text   string // for callers: nothing of the node's URL but its registered domain
	err    error  // for logs, without secrets
	place  int    // of the node in the order in which they were asked
}

// newFailure describes the error of a node. It has to see the error before it is redacted.
func newFailure(n *node, err error, now time.Time) failure {
	text := describe(n, err, now)
	if errors.Is(err, errNoMulticall) {
		text += "; " + errNoMulticall.Error()
	}
	return failure{node: n, reason: reasonOf(err), text: text, err: redact.Error(err, n.url)}
}

// unavailable is the error of a chain whose nodes failed. It says what, and names the reason of each.
func unavailable(what string, failures []failure, retryAfter time.Duration) error {
	var texts, reasons []string
	var causes []error
	for i, f := range failures {
		causes = append(causes, f.err)
		reasons = append(reasons, fmt.Sprintf("%d=%s", f.number, f.reason))
		if i == maxNodesTold {
			texts = append(texts, fmt.Sprintf("and %d more", len(failures)-i))
		}
		if i < maxNodesTold {
			name := ""
			if f.provider != "" {
				name = " (" + f.provider + ")"
			}
			texts = append(texts, fmt.Sprintf("node %d%s %s", f.number, name, f.text))
		}
	}
	return errs.Unavailable("CHAIN_UNAVAILABLE", what+": "+strings.Join(texts, "; ")).
		With("node_reasons", strings.Join(reasons[:min(len(reasons), maxNodesTold)], ",")).
		Because(errors.Join(causes...)).After(retryAfter)
}

// describe says in words what is wrong with a node.
func describe(n *node, err error, now time.Time) string {
	var redirect *redirectError
	var notBefore *retryAfterError
	var future *futureError
	var status rpc.HTTPError
	var answer rpc.Error
	switch {
	case errors.As(err, &redirect):
		to := ""
		if redirect.target != nil {
			to = providerOf(redirect.target.Hostname())
		}
		if to != "" {
			to = " of " + to
		}
		return "redirects to another URL" + to + ", which is not followed"
	case errors.As(err, &notBefore):
		return "asked not to be called for another " + notBefore.until.Sub(now).Round(time.Second).String()
	case errors.As(err, &future):
		return fmt.Sprintf("has a newest block, %d, that is %s in the future: its clock or that of this service is "+
			"wrong", future.block.Number, future.block.Time.Sub(now).Round(time.Second))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "did not answer in time"
	case errors.As(err, &status):
		return describeStatus(status.StatusCode)
	case errors.As(err, &answer):
		text := n.ownWords(answer.Error())
		if kindOf(err) == limited {
			return fmt.Sprintf("is called too often: it answers error %d, %q", answer.ErrorCode(), text)
		}
		return fmt.Sprintf("refuses a call with error %d, %q", answer.ErrorCode(), text)
	}
	var ended *socketError
	if errors.As(err, &ended) && !isCertificate(err) {
		return "can't be used over WebSocket: " + ended.text
	}
	if text, ok := describeNetwork(err); ok {
		return text
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "does not answer with JSON-RPC"
	}
	text := n.ownWords(err.Error())
	if said, ours := strings.CutPrefix(text, "the node "); ours {
		return said
	}
	return "failed: " + text
}

// ownWords is a text of a node without secrets, cut.
func (n *node) ownWords(text string) string {
	clean := strings.Join(strings.Fields(redact.Error(errors.New(text), n.url).Error()), " ")
	if len(clean) > maxNodeText {
		clean = strings.ToValidUTF8(clean[:maxNodeText], "") + "…"
	}
	return clean
}

func describeStatus(code int) string {
	name := strconv.Itoa(code)
	if text := http.StatusText(code); text != "" {
		name += " " + text
	}
	switch reasonOfStatus(code) {
	case chainlist.Unauthorized:
		return "answers " + name + ": the key or the credentials in its URL are not accepted"
	case chainlist.RateLimited:
		return "answers " + name + ": it is called too often"
	}
	return "answers " + name
}

// describeNetwork describes a failure before there was an answer; false for another one. It doesn't tell addresses.
func describeNetwork(err error) (string, bool) {
	var name *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses the connection", true
	case errors.As(err, &name):
		return "has a host name that is not found", true
	case isCertificate(err):
		return "has a TLS certificate that is not valid", true
	case errors.As(err, &network) && network.Timeout():
		return "did not answer in time", true
	case errors.As(err, &network):
		return "can't be reached", true
	}
	return "", false
}

func isCertificate(err error) bool {
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &certificate) || errors.As(err, &unknown)
}
