package password

import (
	"fmt"

	"golang.org/x/text/secure/precis"

	"github.com/purserhq/purser/pkg/errs"
)

// Normalize returns the form of a password that is counted, compared and hashed: OpaqueString of RFC 8265, section 4.2.
// Keyboards and systems write one text in several ways; it composes them (Unicode form NFC) and makes every space an
// ASCII one. It keeps upper case, and the width and the look of letters, so different passwords stay different.
//
// errs.Invalid on field, naming the character, for what the RFC excludes: control characters, invisible ones such as
// joiners and variation selectors, and what Unicode has not assigned. The empty password stays empty.
func Normalize(field, password string) (string, error) {
	if password == "" {
		return "", nil
	}
	normal, err := precis.OpaqueString.String(password)
	if err != nil {
		return "", errs.Invalid(field, "must not contain control characters, invisible ones or unassigned ones "+
			"(RFC 8265, section 4.2); "+firstExcluded(password))
	}
	return normal, nil
}

// firstExcluded names the first character that makes a password an excluded one.
func firstExcluded(password string) string {
	end := 0
	for n, r := range []rune(password) {
		end += len(string(r))
		if end > len(password) {
			break
		}
		if _, err := precis.OpaqueString.String(password[:end]); err != nil {
			return fmt.Sprintf("character %d is %U", n+1, r)
		}
	}
	return "it is not valid UTF-8"
}

// forms returns the forms of a password that a hash may be of, the normal one first. Passwords were hashed as they were
// typed before they were normalized, and imported hashes may be of any form. A password that can't be normalized has
// only the form that was typed.
func forms(typed string) []string {
	normal, err := Normalize("password", typed)
	if err != nil || normal == typed {
		return []string{typed}
	}
	return []string{normal, typed}
}
