package eip4361_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/services/internal/eip4361"
)

const whole = `https://app.example:8080 wants you to sign in with your Ethereum account:
0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed

I accept the terms: https://app.example/tos?v=1&lang=en#top (all of them)!

URI: https://app.example/login?a=%20b
Version: 1
Chain ID: 1
Nonce: 32891756abcDEF
Issued At: 2026-03-01T12:00:00.123Z
Expiration Time: 2026-03-01T13:05:00+01:00
Not Before: 2026-03-01T12:00:00Z
Request ID: some-id:@%41
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- urn:isbn:0451450523`

const least = "app.example wants you to sign in with your Ethereum " +
	"account:\n0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n\n\n" +
	"URI: https://app.example\nVersion: 1\nChain ID: 137\nNonce: abcdefgh\nIssued At: 2026-03-01T12:00:00Z"

func TestAMessageIsReadByTheLetterAndWrittenAsItWas(t *testing.T) {
	for _, text := range []string{whole, least, least + "\nResources:", least + "\nRequest ID: ",
		strings.Replace(least, "app.example wants", "[::1]:80 wants", 1),
		strings.Replace(least, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
			"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", 1)} {
		m, err := eip4361.Parse(text)
		if err != nil || m.String() != text {
			t.Errorf("%v\n%s\n%s", err, text, m)
		}
	}
	m, err := eip4361.Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	if m.Scheme != "https" || m.Domain != "app.example:8080" || m.ChainID != 1 || m.Nonce != "32891756abcDEF" ||
		*m.RequestID != "some-id:@%41" ||
		len(m.Resources) != 2 || m.Expires.Sub(m.NotBefore.Time).Minutes() != 5 ||
		!strings.HasPrefix(*m.Statement, "I accept") {
		t.Errorf("%+v", m)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"a checksum that is wrong":        {"0x5aAeb", "0x5aaeb"},
		"an address of 39 digits":         {"BeAed\n", "BeAe\n"},
		"an address with 0X":              {"0x5a", "0X5a"},
		"a space after the address":       {"BeAed\n", "BeAed \n"},
		"carriage returns":                {"\n", "\r\n"},
		"a statement of two lines":        {"terms:", "terms:\n"},
		"a statement with a control":      {"terms", "terms\x00"},
		"a statement with other letters":  {"terms", "tërms"},
		"a statement with a percent sign": {"terms", "100%"},
		"no empty line after the address": {"BeAed\n\n", "BeAed\n"},
		"no empty line before the URI":    {"!\n\nURI", "!\nURI"},
		"no URI":                          {"URI: https://app.example/login?a=%20b\n", ""},
		"a URI that is none":              {"URI: https://app.example/login?a=%20b", "URI: app.example"},
		"a URI with a bad escape":         {"a=%20b", "a=%2"},
		"a URI with a space":              {"a=%20b", "a= b"},
		"version 2":                       {"Version: 1", "Version: 2"},
		"version 01":                      {"Version: 1", "Version: 01"},
		"a chain that is no number":       {"Chain ID: 1", "Chain ID: one"},
		"a chain with a sign":             {"Chain ID: 1", "Chain ID: +1"},
		"a chain with a zero before it":   {"Chain ID: 1", "Chain ID: 01"},
		"a chain past 64 bits":            {"Chain ID: 1", "Chain ID: 18446744073709551617"},
		"a nonce of seven":                {"32891756abcDEF", "3289175"},
		"a nonce with a dash":             {"32891756abcDEF", "32891756-abcDEF"},
		"fields in another order":         {"Version: 1\nChain ID: 1", "Chain ID: 1\nVersion: 1"},
		"a field twice":                   {"Version: 1\n", "Version: 1\nVersion: 1\n"},
		"a name in lower case":            {"Nonce: ", "nonce: "},
		"a field without a space":         {"Nonce: ", "Nonce:"},
		"a date without a time":           {"2026-03-01T12:00:00.123Z", "2026-03-01"},
		"a date with a space":             {"2026-03-01T12:00:00.123Z", "2026-03-01 12:00:00Z"},
		"a comma before the fraction":     {"00.123Z", "00,123Z"},
		"a point without a fraction":      {"00.123Z", "00.Z"},
		"a time without a zone":           {"00.123Z", "00.123"},
		"the 30th of February":            {"2026-03-01T12:00:00.123Z", "2026-02-30T12:00:00Z"},
		"hour 24":                         {"T12:00:00.123Z", "T24:00:00Z"},
		"a zone of 25 hours":              {"+01:00", "+25:00"},
		"options in another order": {"Expiration Time: 2026-03-01T13:05:00+01:00\nNot Before: " +
			"2026-03-01T12:00:00Z", "Not Before: 2026-03-01T12:00:00Z\nExpiration Time: 2026-03-01T13:05:00+01:00"},
		"a request id with a slash":           {"some-id", "some/id"},
		"a resource without a dash":           {"- urn", "urn"},
		"a resource that is no URI":           {"- urn:isbn:0451450523", "- isbn"},
		"a line after the end":                {"0451450523", "0451450523\n"},
		"another greeting":                    {"Ethereum account:", "Ethereum account"},
		"user information before the domain":  {"https://app.example:8080 wants", "https://me@app.example:8080 wants"},
		"a path after the domain":             {"app.example:8080 wants", "app.example:8080/x wants"},
		"no domain":                           {"https://app.example:8080 wants", " wants"},
		"a domain of two":                     {"https://app.example:8080 wants", "app.example evil.example wants"},
		"a scheme with a digit first":         {"https://app", "1https://app"},
		"a statement that looks like a field": {"\n\nURI", "\n\nURI: https://evil.example\nURI"},
		"a message of more than 8 KiB":        {"terms", strings.Repeat("terms", 2000)},
		"nothing":                             {whole, ""},
	} {
		if text := strings.ReplaceAll(whole, change[0], change[1]); text == whole {
			t.Errorf("%s: nothing was changed", name)
		} else if m, err := eip4361.Parse(text); err == nil {
			t.Errorf("%s was taken: %+v", name, m)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{whole, least, least + "\nResources:\n- a:b", "", "\n\n\n\n",
		strings.ReplaceAll(whole, "\n", "\r\n"), whole + "\n- x:\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := eip4361.Parse(text)
		if err != nil {
			return
		}
		if again := m.String(); again != text {
			t.Fatalf("read and written again it is another\n%q\n%q", text, again)
		}
		for _, r := range text {
			if r > '~' || r < ' ' && r != '\n' {
				t.Fatalf("%q was taken", text)
			}
		}
	})
}
