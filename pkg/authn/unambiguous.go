package authn

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-jose/go-jose/v4/json"
)

// CheckUnambiguous returns an error for a signed JWT that two readers can understand in two ways, although its
// signature is valid. read are the claims that are read besides the registered ones (RFC 7519). It refuses
//
//   - a name that stands twice in an object, at any depth: of the values some readers take the first, others the last
//     (RFC 8259, section 4);
//   - a header parameter or a claim whose name differs only in case from another's, or from one that is read: names
//     are compared exactly (RFC 7519, section 10.1.1), but many JSON readers, Go's among them, ignore their case;
//   - crit, because no extension is supported (RFC 7515, section 4.1.11), and b64, which has no effect without it
//     (RFC 7797, section 6);
//   - exp, nbf, iat and auth_time that are no numbers (RFC 7519, section 2).
//
// It checks neither the signature nor the values. The error may be shown to the token's holder.
func CheckUnambiguous(token string, read ...string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("a signed JWT has three parts, got %d", len(parts))
	}
	header, err := object("header", parts[0], []string{"alg", "typ", "kid", "crit", "b64"})
	if err != nil {
		return err
	}
	for _, name := range []string{"crit", "b64"} {
		if _, ok := header[name]; ok {
			return newFault("its header has %s; no extension is supported", name)
		}
	}
	claims, err := object("claims", parts[1],
		append([]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time"}, read...))
	if err != nil {
		return err
	}
	for _, name := range []string{"exp", "nbf", "iat", "auth_time"} {
		if value, ok := claims[name]; ok {
			if _, isNumber := value.(float64); !isNumber {
				return newFault("its claim %s must be a number of seconds", name)
			}
		}
	}
	return nil
}

// object decodes a part of a JWT. read are the names that are looked up in it.
func object(what, part string, read []string) (map[string]any, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, fmt.Errorf("its %s: %w", what, err)
	}
	var o map[string]any
	// Unlike encoding/json, this package refuses a name that stands twice.
	if err := json.Unmarshal(text, &o); err != nil {
		if strings.Contains(err.Error(), "duplicate key") {
			return nil, newFault("in its %s a name stands twice", what)
		}
		return nil, fmt.Errorf("its %s: %w", what, err)
	}
	if o == nil {
		return nil, fmt.Errorf("its %s: null", what)
	}
	known := make(map[string]string, len(read)+len(o))
	for _, name := range read {
		known[fold(name)] = name
	}
	for name := range o {
		if other, ok := known[fold(name)]; ok && other != name {
			names := []string{name, other}
			slices.Sort(names)
			return nil, newFault("in its %s a name differs only in case from another: %.40q and %.40q", what, names[0],
				names[1])
		}
		known[fold(name)] = name
	}
	return o, nil
}

// fold returns the same text for all names that encoding/json takes for one: it ignores the case, as Unicode's simple
// folding does.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}
