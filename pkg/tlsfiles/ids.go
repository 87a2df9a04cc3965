package tlsfiles

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// IDs is a list of SPIFFE ids: exact ones, and prefixes that end with "/*".
type IDs struct{ rules []string }

// ParseIDs reads a list. An entry is an id, such as spiffe://example.org/ns/purser/sa/wallet,
// or one whose path ends with "/*", which stands for one segment or more:
// spiffe://example.org/* is every id with a path of the trust domain. The error lists each
// entry that is neither.
func ParseIDs(entries []string) (IDs, error) {
	var ids IDs
	var invalid []error
	for _, e := range entries {
		exact, _ := strings.CutSuffix(e, "/*")
		if _, err := spiffeid.FromString(exact); err != nil {
			invalid = append(invalid, fmt.Errorf("%q is not a SPIFFE id, with or without /* at its end: %w", e, err))
			continue
		}
		ids.rules = append(ids.rules, e)
	}
	return ids, errors.Join(invalid...)
}

// Has reports whether an id is in the list.
func (i IDs) Has(id string) bool {
	for _, rule := range i.rules {
		prefix, any := strings.CutSuffix(rule, "*")
		if id == rule || any && strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// String returns the list, separated by commas.
func (i IDs) String() string { return strings.Join(i.rules, ",") }

// IDOf returns the SPIFFE id of a certificate by the rules of the X509-SVID specification:
// it has exactly one URI, and is no authority.
func IDOf(cert *x509.Certificate) (string, error) {
	switch {
	case len(cert.URIs) == 0:
		return "", errors.New("the certificate has no URI, and so no SPIFFE id")
	case len(cert.URIs) > 1:
		return "", fmt.Errorf("the certificate has %d URIs, a SPIFFE id has to be the only one", len(cert.URIs))
	case cert.IsCA || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return "", errors.New("the certificate is that of an authority")
	}
	id, err := spiffeid.FromURI(cert.URIs[0])
	if err != nil {
		return "", fmt.Errorf("the certificate's URI is not a SPIFFE id: %w", err)
	}
	return id.String(), nil
}

// CheckID returns an error that says what is wrong with a SPIFFE id.
func CheckID(id string) error {
	if _, err := spiffeid.FromString(id); err != nil {
		return fmt.Errorf("%q is not a SPIFFE id: %w", id, err)
	}
	return nil
}
