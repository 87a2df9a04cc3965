package policy_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// secretName are names of fields for secrets; openName are those of others that look like them.
var (
	secretName = regexp.MustCompile(`(^|_)(password|code|token|secret|key|signature|verifier)$|^recovery_codes$`)
	openName   = regexp.MustCompile(`^(page_token|next_page_token)$`)
)

// A text of an error repeats what a field was given, unless it has debug_redact.
func TestEveryFieldForASecretIsMarked(t *testing.T) {
	var found []string
	marked := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Package()), "purser.") {
			return true
		}
		for i := range f.Messages().Len() {
			fields := f.Messages().Get(i).Fields()
			for j := range fields.Len() {
				field := fields.Get(j)
				name := string(field.Name())
				if field.Kind() != protoreflect.StringKind || !secretName.MatchString(name) ||
					openName.MatchString(name) {
					continue
				}
				o, _ := field.Options().(*descriptorpb.FieldOptions)
				if !o.GetDebugRedact() {
					found = append(found, fmt.Sprintf("%s is for a secret: give it the option debug_redact = "+
						"true, so that "+
						"no error repeats it", field.FullName()))
				}
				marked++
			}
		}
		return true
	})
	if marked < 20 {
		t.Errorf("only %d fields for secrets were found", marked)
	}
	report(t, found)
}
