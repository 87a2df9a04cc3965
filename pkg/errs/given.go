package errs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxGiven is how many characters of an input an error repeats.
	maxGiven = 64
	// mnemonicWords is from how many words on a text may be a wallet's recovery
	// phrase (BIP-39), which has 12 to 24.
	mnemonicWords = 12
)

var (
	// longRun is a run of characters as keys, tokens and hashes have it. An
	// address (0x and 40 digits) and a UUID are shorter.
	longRun = regexp.MustCompile(`[A-Za-z0-9_+/=-]{43,}`)
	// hexRun is an address, or one with some digits too many. A key has 64, but a
	// program that writes it as a number leaves out the zeros that it begins with.
	hexRun = regexp.MustCompile(`^0x[0-9A-Fa-f]{1,48}$`)
	// marked is the beginning of a JWT, of a secret of Purser's, or of a PEM block.
	marked = regexp.MustCompile(`eyJ|purser_[a-z]+_|-----BEGIN`)
)

// Given says in an error what the caller gave, for example: got "0x12". The text is
// quoted, so that white space and invisible characters are seen, and cut at 64
// characters. What looks like a key, a token or a recovery phrase is counted and
// not repeated. Use [GivenSecret] for a field that is for secrets.
func Given(text string) string {
	if text == "" {
		return "got nothing"
	}
	if mayBeSecret(text) {
		return GivenSecret(text) + ", not repeated here since they may be a secret"
	}
	cut := ""
	if utf8.RuneCountInString(text) > maxGiven {
		text, cut = string([]rune(text)[:maxGiven]), "…"
	}
	return "got " + strconv.Quote(text) + cut
}

// GivenSecret says how long a text is that an error must not repeat, for example:
// got 7 characters.
func GivenSecret(text string) string {
	switch n := utf8.RuneCountInString(text); n {
	case 0:
		return "got nothing"
	case 1:
		return "got 1 character"
	default:
		return fmt.Sprintf("got %d characters", n)
	}
}

func mayBeSecret(text string) bool {
	if marked.MatchString(text) || len(strings.Fields(text)) >= mnemonicWords {
		return true
	}
	for _, run := range longRun.FindAllString(text, -1) {
		if !hexRun.MatchString(run) {
			return true
		}
	}
	return false
}
