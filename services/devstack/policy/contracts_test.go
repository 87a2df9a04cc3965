package policy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/purserhq/purser/proto/access"
	// Linked, so that their descriptors are registered.
	_ "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/status/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// protoMethod is a method as declared in a .proto file.
type protoMethod struct {
	full, file string
	line       int
	commented  bool
}

var (
	packageLine = regexp.MustCompile(`^package ([\w.]+);`)
	serviceLine = regexp.MustCompile(`^service (\w+)`)
	rpcLine     = regexp.MustCompile(`^\s*rpc (\w+)\s*\(`)
)

// protoMethods lists the methods of a .proto file.
func protoMethods(s source) []protoMethod {
	var methods []protoMethod
	var pack, service, before string
	number := 0
	for line := range strings.Lines(s.text) {
		number++
		if m := packageLine.FindStringSubmatch(line); m != nil {
			pack = m[1]
		}
		if m := serviceLine.FindStringSubmatch(line); m != nil {
			service = m[1]
		}
		if m := rpcLine.FindStringSubmatch(line); m != nil {
			methods = append(methods, protoMethod{
				full: "/" + pack + "." + service + "/" + m[1], file: s.path, line: number,
				commented: strings.HasPrefix(strings.TrimSpace(before), "// "),
			})
		}
		before = line
	}
	return methods
}

// methodViolations lists the methods without an access rule or a comment.
func methodViolations(methods []protoMethod, lookup func(string) (access.Rule, bool)) []string {
	var found []string
	for _, m := range methods {
		if r, ok := lookup(m.full); !ok || r == (access.Rule{}) {
			found = append(found, fmt.Sprintf(
				"%s:%d: %s has no access rule: set option (purser.access.v1.rule) to say who may call it; "+
					"a server does not start without", m.file, m.line, m.full))
		}
		if !m.commented {
			found = append(found, fmt.Sprintf(
				"%s:%d: %s has no comment: say what it does, what it needs and which errors it returns", m.file,
				m.line, m.full))
		}
	}
	return found
}

// registeredMethods lists the methods of the generated code that is linked into this test.
func registeredMethods() []string {
	var names []string
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Package()), "purser.") {
			return true
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				names = append(names, "/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
			}
		}
		return true
	})
	slices.Sort(names)
	return names
}

func TestEveryMethodHasAnAccessRuleAndAComment(t *testing.T) {
	var all []protoMethod
	var names []string
	for _, s := range sources(t, ".proto") {
		if s.under("proto/purser") {
			all = append(all, protoMethods(s)...)
		}
	}
	for _, m := range all {
		names = append(names, m.full)
	}
	slices.Sort(names)
	if got := registeredMethods(); !slices.Equal(got, names) {
		t.Errorf("the contracts declare\n%s\nand the linked code registers\n%s\nrun make generate, or import the "+
			"package above",
			strings.Join(names, "\n"), strings.Join(got, "\n"))
	}
	report(t, methodViolations(all, access.Lookup))
}

// TestAMethodWithoutRuleOrCommentIsReported is the control of the test above.
func TestAMethodWithoutRuleOrCommentIsReported(t *testing.T) {
	methods := protoMethods(source{"proto/purser/wallet/v1/x.proto", `syntax = "proto3";
package purser.wallet.v1;

// WalletService has one valid method and two invalid ones.
service WalletService {
  // GetWallet exists.
  rpc GetWallet(GetWalletRequest) returns (GetWalletResponse) {}

  // Forgotten has a comment and no rule.
  rpc Forgotten(Request) returns (Response);

  rpc ListWallets (Request) returns (Response) {}
}
`})
	got := methodViolations(methods, access.Lookup)
	if len(methods) != 3 || len(got) != 2 ||
		!strings.Contains(got[0], "x.proto:10: /purser.wallet.v1.WalletService/Forgotten has no access rule") ||
		!strings.Contains(got[1], "x.proto:12: /purser.wallet.v1.WalletService/ListWallets has no comment") {
		t.Errorf("found %v and reported %q", methods, got)
	}
}
