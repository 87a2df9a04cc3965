package grpcserver

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/purserhq/purser/pkg/errs"
)

// violationText says which rule a field breaks and what was given, for the person
// who called. A field with the option debug_redact is never repeated, nor is an
// e-mail address, since passwords are typed into its field by mistake.
func violationText(v *protovalidate.Violation) string {
	rule := v.Proto.GetRuleId()
	text, isText := stringValue(v)
	if isText && text == "" && rule != "string.pattern" {
		return "must be set" + expected(rule)
	}
	switch rule {
	case "required":
		return "must be set"
	case "string.uuid":
		return "must be a UUID" + uuidExample + ", " + given(v, text)
	case "string.email":
		return "must be an e-mail address in ASCII" + emailExample + "; " + emailFault(text)
	case "string.max_len":
		return fmt.Sprintf("must have at most %v characters, got %d", v.RuleValue.Interface(),
			utf8.RuneCountInString(text))
	case "string.min_len":
		return fmt.Sprintf("must have at least %v characters, got %d", v.RuleValue.Interface(),
			utf8.RuneCountInString(text))
	case "string.len":
		return fmt.Sprintf("must have %v characters, got %d", v.RuleValue.Interface(), utf8.RuneCountInString(text))
	case "string.max_bytes":
		return fmt.Sprintf("must have at most %v bytes, got %d", v.RuleValue.Interface(), len(text))
	case "string.pattern":
		return fmt.Sprintf("must match %v, %s%s", v.RuleValue.Interface(), given(v, text), inLowerCase(v, text))
	case "string.ip_prefix":
		return `must be an address range whose host bits are 0, for example "192.0.2.0/24", ` + given(v, text)
	case "repeated.unique":
		return "must not have an item twice"
	case "enum.defined_only":
		return enumText(v)
	}
	message := between.ReplaceAllString(v.Proto.GetMessage(), "must be $1 to $2")
	message = items.ReplaceAllString(message, "must have $1 $2 items")
	message = strings.Replace(message, " 1 items", " 1 item", 1)
	if message == "" {
		message = "breaks the rule " + rule
	}
	if isText {
		return message + ", " + given(v, text)
	}
	return message + countOf(v)
}

// The wordings of protovalidate that are longer than they have to be.
var (
	between = regexp.MustCompile(`^must be greater than or equal to (\S+) and less than or equal to (\S+)$`)
	items   = regexp.MustCompile(`^must contain (at least|no more than) (\d+) item\(s\)$`)
)

const (
	uuidExample  = `, for example "0199ed3c-5a2e-7c4e-9d0f-3b1f4c5d6e7f"`
	emailExample = `, for example "ada@example.com"`
)

// expected says what an empty field should have.
func expected(rule string) string {
	switch rule {
	case "string.uuid", "string.uuid_empty":
		return " to a UUID" + uuidExample
	case "string.email", "string.email_empty":
		return " to an e-mail address" + emailExample
	}
	return ""
}

// inLowerCase says how to write a text that matches the pattern of its field in lower
// case only, without white space around it.
func inLowerCase(v *protovalidate.Violation, text string) string {
	small := strings.ToLower(strings.TrimSpace(text))
	pattern, err := regexp.Compile(v.RuleValue.String())
	if err != nil || !pattern.MatchString(small) || given(v, text) != "got "+strconv.Quote(text) { // a secret
		return ""
	}
	return ": write " + strconv.Quote(small)
}

// stringValue returns the text of a string field or item.
func stringValue(v *protovalidate.Violation) (string, bool) {
	if !v.FieldValue.IsValid() {
		return "", false
	}
	text, ok := v.FieldValue.Interface().(string)
	return text, ok
}

// given says what the caller gave, unless the field is for secrets.
func given(v *protovalidate.Violation, text string) string {
	if isSecret(v.FieldDescriptor) {
		return errs.GivenSecret(text)
	}
	return errs.Given(text)
}

// isSecret reports whether a field has the option debug_redact.
func isSecret(f protoreflect.FieldDescriptor) bool {
	if f == nil {
		return false
	}
	o, ok := f.Options().(*descriptorpb.FieldOptions)
	return ok && o.GetDebugRedact()
}

// countOf says what was given for a number, or how many items for a list or map.
func countOf(v *protovalidate.Violation) string {
	if !v.FieldValue.IsValid() {
		return ""
	}
	switch value := v.FieldValue.Interface().(type) {
	case int32, int64, uint32, uint64, float32, float64, bool:
		return fmt.Sprintf(", got %v", value)
	case protoreflect.List:
		return fmt.Sprintf(", got %d", value.Len())
	case protoreflect.Map:
		return fmt.Sprintf(", got %d", value.Len())
	}
	return ""
}

// enumText names the values of an enum that mean something.
func enumText(v *protovalidate.Violation) string {
	var names []string
	values := v.FieldDescriptor.Enum().Values()
	for i := range values.Len() {
		if n := values.Get(i); n.Number() != 0 {
			names = append(names, fmt.Sprintf("%s (%d)", n.Name(), n.Number()))
		}
	}
	return fmt.Sprintf("must be one of %s, got %d", strings.Join(names, ", "), v.FieldValue.Enum())
}

// emailFault says what is wrong with an e-mail address, without repeating it.
func emailFault(text string) string {
	for i, r := range []rune(text) {
		if r > unicode.MaxASCII {
			return fmt.Sprintf("character %d is %s (%U); write an internationalised domain in its xn-- form", i+1,
				strconv.QuoteRune(r), r)
		}
	}
	local, domain, found := strings.Cut(text, "@")
	switch {
	case strings.ContainsFunc(text, unicode.IsSpace):
		return "there is white space in it"
	case !found:
		return fmt.Sprintf("got %d characters without an @", len(text))
	case local == "":
		return "nothing is before the @"
	case domain == "":
		return "nothing is after the @"
	case strings.Contains(domain, "@"):
		return "there is more than one @"
	}
	return "its form is not that of an address"
}
