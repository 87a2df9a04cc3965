package config

import "net/url"

// IsHTTPURL reports whether text is an absolute http or https URL.
func IsHTTPURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}
