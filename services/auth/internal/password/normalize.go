package password

import (
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/purserhq/purser/pkg/errs"
)

// Normalize returns the form of a password that is counted, compared and hashed: OpaqueString of RFC 8265, section
// 4.2. Keyboards and systems write one text in several ways; it composes them (Unicode form NFC) and makes every space
// an ASCII one. It keeps upper case, and the width and the look of letters, so different passwords stay different.
//
// errs.Invalid on field, naming the character, for what the RFC excludes: control characters, invisible ones such as
// joiners and variation selectors, what Unicode had not assigned when the tables of the library were made, and a few
// outside of their context, such as a middle dot that is not between two l. The empty password stays empty.
func Normalize(field, password string) (string, error) {
	if password == "" {
		return "", nil
	}
	if !utf8.ValidString(password) {
		return "", errs.Invalid(field, "must be valid UTF-8")
	}
	normal, err := precis.OpaqueString.String(password)
	if err != nil {
		return "", errs.Invalid(field, "must not contain characters that RFC 8265 excludes: control, invisible "+
			"and unassigned ones, and a few outside of their context; "+firstExcluded(password))
	}
	return normal, nil
}

// firstExcluded names the first character that makes a password an excluded one: the one after the longest beginning
// that is none. A shorter beginning can be one, for what follows may be the context that a character needs.
func firstExcluded(password string) string {
	runes := []rune(password)
	n := len(runes) - 1
	for n > 0 {
		if _, err := precis.OpaqueString.String(string(runes[:n])); err == nil {
			break
		}
		n--
	}
	return fmt.Sprintf("character %d is %U", n+1, runes[n])
}

// forms returns the forms of a password that a hash may be of, the normal one first. Passwords were hashed as they
// were typed before they were normalized, and imported hashes may be of any form. A password that can't be normalized
// has only the form that was typed.
func forms(typed string) []string {
	normal, err := Normalize("password", typed)
	if err != nil || normal == typed {
		return []string{typed}
	}
	return []string{normal, typed}
}
