package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Server is what a server's side of TLS needs.
type Server struct {
	// Pair is the server's own certificate.
	Pair *Pair
	// Clients, if set, are the authorities of clients: one without a certificate of theirs,
	// or whose SPIFFE id is not in IDs, is refused.
	Clients *Roots
	IDs     IDs
	// MinVersion of TLS, such as tls.VersionTLS13.
	MinVersion uint16
}

// Config returns a configuration whose handshakes use the files of that moment.
func (s Server) Config() *tls.Config {
	base := &tls.Config{
		MinVersion:     s.MinVersion,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Pair.Certificate(), nil },
	}
	if s.Clients == nil {
		return base
	}
	// Every connection shows its certificate: none goes on from one that was verified by an
	// older list or bundle.
	base.SessionTicketsDisabled = true
	base.ClientAuth = tls.RequireAndVerifyClientCert
	base.VerifyConnection = s.verify
	config := base.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = s.Clients.Pool()
		return now, nil
	}
	return config
}

// verify refuses a client whose certificate is good, but whose id is not in the list.
func (s Server) verify(state tls.ConnectionState) error {
	id, err := IDOf(state.PeerCertificates[0])
	if err != nil {
		return &RefusedError{Reason: "no_id", Presented: names(state.PeerCertificates[0]), err: err}
	}
	if !s.IDs.Has(id) {
		return &RefusedError{Reason: "not_listed", Presented: id,
			err: fmt.Errorf("%s is not in the list of allowed ids: %s", id, s.IDs)}
	}
	return nil
}

// RefusedError is why a client's certificate was refused.
type RefusedError struct {
	// Reason is one of Reasons.
	Reason string
	// Presented is what the certificate names: its URIs or, without one, its subject. It is
	// empty when there was no certificate. Nobody has vouched for it where the reason is
	// untrusted.
	Presented string
	err       error
}

// Reasons for which a client's certificate is refused: there is none; it is of no
// authority in the bundle; it has expired; it is invalid otherwise; it has no SPIFFE id;
// its id is not in the list.
func Reasons() []string {
	return []string{"no_certificate", "untrusted", "expired", "invalid", "no_id", "not_listed"}
}

// Error says the reason.
func (r *RefusedError) Error() string { return r.err.Error() }

// Unwrap returns the cause.
func (r *RefusedError) Unwrap() error { return r.err }

// noCertificate is crypto/tls's error for a client without a certificate, which has no type.
const noCertificate = "tls: client didn't provide a certificate"

// RefusedClient returns why a server's handshake has refused the client's certificate; nil
// when it failed for another reason.
func RefusedClient(err error) *RefusedError {
	var own *RefusedError
	if errors.As(err, &own) {
		return own
	}
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0 {
		refused := &RefusedError{Reason: "invalid", Presented: names(verification.UnverifiedCertificates[0]), err: err}
		var invalid x509.CertificateInvalidError
		if errors.As(err, new(x509.UnknownAuthorityError)) {
			refused.Reason = "untrusted"
		} else if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			refused.Reason = "expired"
		}
		return refused
	}
	if err != nil && err.Error() == noCertificate {
		return &RefusedError{Reason: "no_certificate", err: errors.New("the client has no certificate")}
	}
	return nil
}

// maxNames bounds what is told of a certificate, in characters.
const maxNames = 300

// names returns what a certificate names: its URIs or, without one, its subject.
func names(cert *x509.Certificate) string {
	text := cert.Subject.String()
	if len(cert.URIs) > 0 {
		text = fmt.Sprint(cert.URIs)
	}
	return fmt.Sprintf("%.*s", maxNames, text)
}
