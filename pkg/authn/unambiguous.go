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
	head, rest, _ := strings.Cut(token, ".")
	payload, _, ok := strings.Cut(rest, ".")
	if n := 1 + strings.Count(token, "."); !ok || n != 3 {
		return fmt.Errorf("a signed JWT has three parts, got %d", n)
	}
	if err := checkObject("header", head, headerRead, nil, headerRefused); err != nil {
		return err
	}
	// Numbers are also among those that are read.
	return checkObject("claims", payload, append(registered[:len(registered):len(registered)], read...), times, nil)
}

var (
	headerRead    = []string{"alg", "typ", "kid", "crit", "b64"}
	headerRefused = []string{"crit", "b64"}
	registered    = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time"}
	times         = []string{"exp", "nbf", "iat", "auth_time"}
)

// checkObject checks a part of a JWT: read, numbers and refused are as in plainly.
func checkObject(what, part string, read, numbers, refused []string) error {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return fmt.Errorf("its %s: %w", what, err)
	}
	if plainly(text, read, numbers, refused) {
		return nil
	}
	return byDecoding(what, text, read, numbers, refused)
}

// byDecoding checks a part of a JWT, also one that is unusual, and says what is wrong.
func byDecoding(what string, text []byte, read, numbers, refused []string) error {
	decoded, err := object(what, text, read)
	if err != nil {
		return err
	}
	for _, name := range refused {
		if _, ok := decoded[name]; ok {
			return newFault("its %s has %s; no extension is supported", what, name)
		}
	}
	for _, name := range numbers {
		if value, ok := decoded[name]; ok {
			if _, isNumber := value.(float64); !isNumber {
				return newFault("its claim %s must be a number of seconds", name)
			}
		}
	}
	return nil
}

// object decodes a part of a JWT. read are the names that are looked up in it.
func object(what string, text []byte, read []string) (map[string]any, error) {
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
		lowest := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			lowest = min(lowest, other)
		}
		return lowest
	}, name)
}
