package authn

import (
	"bytes"
	"strings"
)

const (
	// maxScanNames is how many names the open objects of a scan may have together.
	maxScanNames = 48
	// maxScanDepth is how deep objects and lists may stand in each other.
	maxScanDepth = 4
)

// scan walks over JSON that is written as issuers write it, and makes nothing of it. It stops at all that is unusual.
type scan struct {
	text []byte
	at   int
	// names are those of the open objects, outermost first; they point into text.
	names [maxScanNames][]byte
	known int
}

// plainly reports whether text is a JSON object that CheckUnambiguous has nothing against, at a tenth of the cost. It
// is false also for what is only unusual, such as an escape or a letter outside of ASCII, names that differ only in
// case, numbers with a fraction: the caller then decodes the object to decide. read, numbers and refused are names:
// those that are looked up, those whose values must be numbers, and those that may not be there.
func plainly(text []byte, read, numbers, refused []string) bool {
	s := scan{text: text}
	accept := func(name []byte, first byte) bool {
		for _, r := range refused {
			if string(name) == r {
				return false
			}
		}
		for _, r := range read {
			if len(name) == len(r) && string(name) != r && strings.EqualFold(string(name), r) {
				return false
			}
		}
		for _, n := range numbers {
			if string(name) == n && !digit(first) {
				return false
			}
		}
		return true
	}
	return s.next() == '{' && s.object(0, accept) && s.next() == 0 && s.at == len(text)
}

// next steps over white space and one byte, which it returns; 0 at the end.
func (s *scan) next() byte {
	for s.at < len(s.text) {
		c := s.text[s.at]
		if c == 0 {
			return 0 // which is no JSON: the end isn't reached
		}
		s.at++
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c
		}
	}
	return 0
}

// object steps over an object whose brace was read. accept, if set, decides on each name, with the first byte of its
// value.
func (s *scan) object(depth int, accept func(name []byte, first byte) bool) bool {
	outside := s.known
	c := s.next()
	for first := true; c != '}' || !first; c = s.next() {
		begun := s.at
		if c != '"' || !s.str() {
			return false
		}
		name := s.text[begun : s.at-1]
		if !s.add(name, outside) || s.next() != ':' {
			return false
		}
		begin := s.next()
		if accept != nil && !accept(name, begin) || !s.value(depth, begin) {
			return false
		}
		if c = s.next(); c == '}' {
			break
		} else if c != ',' {
			return false
		}
		first = false
	}
	s.known = outside
	return true
}

// list steps over a list whose bracket was read.
func (s *scan) list(depth int) bool {
	c := s.next()
	for first := true; c != ']' || !first; c = s.next() {
		if !s.value(depth, c) {
			return false
		}
		if c = s.next(); c == ']' {
			break
		} else if c != ',' {
			return false
		}
		first = false
	}
	return true
}

// value steps over a value whose first byte was read.
func (s *scan) value(depth int, first byte) bool {
	switch {
	case first == '"':
		return s.str()
	case first == '{':
		return depth < maxScanDepth && s.object(depth+1, nil)
	case first == '[':
		return depth < maxScanDepth && s.list(depth+1)
	case first == 't':
		return s.literal("true")
	case first == 'f':
		return s.literal("false")
	case first == 'n':
		return s.literal("null")
	case digit(first):
		return s.integer(first)
	}
	return false
}

// str steps over the rest of a string whose quote was read.
func (s *scan) str() bool {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		if c == '"' {
			return true
		}
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return false
}

// literal steps over the rest of a word whose first letter was read.
func (s *scan) literal(word string) bool {
	end := s.at - 1 + len(word)
	if end > len(s.text) || string(s.text[s.at-1:end]) != word {
		return false
	}
	s.at = end
	return true
}

// integer steps over the rest of a number of at most 15 digits, which every reader reads alike.
func (s *scan) integer(first byte) bool {
	begin := s.at
	for s.at < len(s.text) && digit(s.text[s.at]) {
		s.at++
	}
	if s.at < len(s.text) && (s.text[s.at] == '.' || s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		return false
	}
	more := s.at - begin
	return more < 15 && (first != '0' || more == 0)
}

// add adds a name to those of the innermost object, which begin at from. False when one is the same but for case.
func (s *scan) add(name []byte, from int) bool {
	if s.known == maxScanNames {
		return false
	}
	for _, other := range s.names[from:s.known] {
		if len(name) == len(other) && bytes.EqualFold(name, other) {
			return false
		}
	}
	s.names[s.known] = name
	s.known++
	return true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
