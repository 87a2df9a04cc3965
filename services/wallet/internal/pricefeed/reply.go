package pricefeed

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

// maxClockSkew is how far a price's time may be in the future.
const maxClockSkew = 5 * time.Minute

// Members returns the values of a JSON object by their names in lower case. One that
// stands there several times, with different values, is nil: nobody can tell which is
// right.
func Members(raw json.RawMessage) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("price feed: its reply is no JSON object")
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		text, isText := name.(string)
		if err != nil || !isText {
			return nil, errors.New("price feed: its reply is no JSON")
		}
		text = strings.ToLower(text)
		if before, twice := out[text]; twice && !bytes.Equal(before, value) {
			value = nil
		}
		out[text] = value
	}
	if _, err := d.Token(); err != nil { // the end of the object
		return nil, errors.New("price feed: its reply is no JSON")
	}
	return out, nil
}

// Value reads a price from a JSON number, "" for none.
func Value(n json.Number) string {
	value, err := price.Parse(n.String())
	if err != nil {
		return ""
	}
	return value
}

// Time reads the time of a price in Unix seconds, or says why it is none.
func Time(n json.Number, now time.Time) (at time.Time, why string) {
	seconds, err := n.Int64()
	if parts, whole := strings.CutSuffix(n.String(), ".0"); whole { // as of a feed that counts in floats
		seconds, err = json.Number(parts).Int64()
	}
	// Compared as seconds, since a huge number overflows time.Time.
	switch {
	case err != nil || seconds <= 0:
		return at, "no time"
	case seconds > now.Add(maxClockSkew).Unix():
		return at, "of the future"
	}
	return time.Unix(seconds, 0).UTC(), ""
}

// withoutNaN returns a reply in which the numbers that JSON doesn't have, NaN and the
// infinities, are null. Feeds written in Python send them, and one of them makes the
// whole reply unreadable.
func withoutNaN(body []byte) []byte {
	if !bytes.Contains(body, []byte("NaN")) && !bytes.Contains(body, []byte("Infinity")) {
		return body
	}
	out, inText := make([]byte, 0, len(body)), false
	for i := 0; i < len(body); i++ {
		switch {
		case inText && body[i] == '\\' && i+1 < len(body):
			out = append(out, body[i])
			i++
		case body[i] == '"':
			inText = !inText
		case !inText:
			if word := noNumber(body[i:]); word > 0 {
				out = append(out, "null"...)
				i += word - 1
				continue
			}
		}
		out = append(out, body[i])
	}
	return out
}

// noNumber returns the length of the NaN or infinity that a text begins with.
func noNumber(text []byte) int {
	for _, word := range []string{"NaN", "Infinity", "-Infinity", "-NaN"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return len(word)
		}
	}
	return 0
}
