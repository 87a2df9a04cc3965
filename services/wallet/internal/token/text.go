package token

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
)

// MaxTextBytes is how long a symbol and a name may be.
const MaxTextBytes = 100

// CleanText makes what a contract says of itself safe to store and to show: valid UTF-8
// without control characters and without those that reorder or hide text, white space in
// single spaces, cut at MaxTextBytes.
func CleanText(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= MaxTextBytes {
		return s
	}
	cut := MaxTextBytes - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimSpace(s[:cut]) + "…"
}

// ShortAddress stands for the symbol of a token that has none.
func ShortAddress(contract common.Address) string {
	return contract.Hex()[:6] + "…" + contract.Hex()[38:]
}

var advertisement = regexp.MustCompile(`(?i)https?:|www\.|\b[a-z0-9-]+\.(com|io|org|net|xyz|app|me|site|top|vip|` +
	`gift|claims?|finance|fi|cc|co|lol|pro|live|click|link)\b|\b(claim|visit|airdrop|reward|voucher|redeem|bonus)s?\b`)

// LooksLikeSpam reports whether a symbol or name looks like an advertisement: it names a
// web site, or asks to claim something.
func LooksLikeSpam(text string) bool { return advertisement.MatchString(text) }
