// Package accessdoc generates docs/access.md: which permission each method of the linked contracts needs, and which
// role has which permission.
package accessdoc

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/purserhq/purser/proto/access"
	// Linked, so that their descriptors are registered.
	_ "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/status/v1"
	_ "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	authapp "github.com/purserhq/purser/services/auth/app"
)

const head = `# Who may call what

` + "`make generate`" + ` writes this page from the contracts and auth's table of roles. A test fails when it is out of
date. The servers enforce the same rules: a server with a method that has no rule does not start.

A permission without ` + "`:any`" + ` covers what the caller owns. With ` + "`:any`" + ` it covers everybody's.
What belongs to another user is NOT_FOUND.

`

// Markdown returns the page.
func Markdown() string {
	var b strings.Builder
	b.WriteString(head)
	roles(&b)
	for _, s := range services() {
		fmt.Fprintf(&b, "\n## %s\n\n| method | who | may be repeated |\n|---|---|---|\n", s.FullName())
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			fmt.Fprintf(&b, "| %s | %s | %s |\n", m.Name(), who(m), repeated(m))
		}
	}
	return b.String()
}

func roles(b *strings.Builder) {
	all := authapp.Roles()
	var permissions []string
	b.WriteString("## Roles\n\n| permission |")
	for _, r := range all {
		fmt.Fprintf(b, " %s |", r.Name)
		for _, p := range r.Permissions {
			if !slices.Contains(permissions, p) {
				permissions = append(permissions, p)
			}
		}
	}
	slices.Sort(permissions)
	b.WriteString("\n|---" + strings.Repeat("|---", len(all)) + "|\n")
	for _, p := range permissions {
		fmt.Fprintf(b, "| `%s` |", p)
		for _, r := range all {
			mark := ""
			if slices.Contains(r.Permissions, p) {
				mark = "yes"
			}
			fmt.Fprintf(b, " %s |", mark)
		}
		b.WriteString("\n")
	}
}

// services returns the services of the contracts, sorted by name.
func services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "purser.") {
			for i := range f.Services().Len() {
				all = append(all, f.Services().Get(i))
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.ServiceDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return all
}

func who(m protoreflect.MethodDescriptor) string {
	rule, ok := access.Lookup(fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()))
	switch {
	case !ok:
		return "nobody"
	case rule.Public:
		return "anybody"
	case rule.Authenticated:
		return "whoever is signed in"
	}
	return "`" + rule.Permission + "`"
}

func repeated(m protoreflect.MethodDescriptor) string {
	opts, _ := m.Options().(*descriptorpb.MethodOptions)
	switch opts.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return "yes, it changes nothing"
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return "yes"
	}
	return ""
}
