package eip4361

import (
	"cmp"
	"errors"
)

// Site is the setting of the page that asks wallets for signatures, PURSER_SIWE_*.
type Site struct {
	// Domain of the page, host or host:port, as wallets compare it. No wallet is asked
	// while it is empty.
	Domain string `env:"DOMAIN"`
	// URI of the page; https:// and the domain when empty.
	URI string `env:"URI"`
}

// Validate reports every error in s.
func (s Site) Validate() error {
	var found []error
	if s.Domain != "" && !IsAuthority(s.Domain) {
		found = append(found, errors.New("PURSER_SIWE_DOMAIN must be host or host:port"))
	}
	if s.URI != "" && !IsURI(s.URI) {
		found = append(found, errors.New("PURSER_SIWE_URI must be a URI"))
	}
	if s.Domain == "" && s.URI != "" {
		found = append(found, errors.New("PURSER_SIWE_URI needs PURSER_SIWE_DOMAIN"))
	}
	return errors.Join(found...)
}

// PageURI is the URI of the page.
func (s Site) PageURI() string { return cmp.Or(s.URI, "https://"+s.Domain) }
