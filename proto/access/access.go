// Package access reads the purser.access.v1 option off the descriptors that
// are linked into the program: which rule a method has, and which methods change
// something and which may be retried. It promises that what a server enforces is what the .proto
// files say, with no second list to keep in step.
//
// Limits: it sees linked files only, so the generated package of a service
// must be imported (it is, wherever that service is registered or called).
package access

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	accessv1 "github.com/purserhq/purser/proto/gen/purser/access/v1"
)

// Rule says who may call a method; exactly one field is set. It is an alias
// of an unnamed struct so that it is the same type as the server library's
// own, which may not import this module.
type Rule = struct {
	// Public: anybody, with or without a token.
	Public bool
	// Authenticated: any caller with a valid access token.
	Authenticated bool
	// Permission that the caller's token must carry.
	Permission string
}

// Lookup returns the rule of a gRPC method by its full name, for example
// "/purser.wallet.v1.WalletService/GetWallet", and false when the method is
// unknown or carries no rule. It is safe for concurrent use.
func Lookup(fullMethod string) (Rule, bool) {
	m, ok := method(fullMethod)
	if !ok {
		return Rule{}, false
	}
	return ruleOf(m)
}

// Idempotent lists the full names of the methods of a service, by its full
// name, whose idempotency_level says that repeating a call is safe. The list
// is sorted.
func Idempotent(service string) []string {
	var names []string
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	for i := range sd.Methods().Len() {
		m := sd.Methods().Get(i)
		opts, ok := m.Options().(*descriptorpb.MethodOptions)
		if ok && opts.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
			names = append(names, "/"+service+"/"+string(m.Name()))
		}
	}
	slices.Sort(names)
	return names
}

// Changes reports whether a method may change something: its idempotency_level is
// not NO_SIDE_EFFECTS. A method that is unknown may.
func Changes(fullMethod string) bool {
	m, ok := method(fullMethod)
	if !ok {
		return true
	}
	opts, ok := m.Options().(*descriptorpb.MethodOptions)
	return !ok || opts.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

func method(fullMethod string) (protoreflect.MethodDescriptor, bool) {
	service, name, ok := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	if !ok {
		return nil, false
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil {
		return nil, false
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	return m, ok && string(m.Name()) == name // not cut at another dot
}

func ruleOf(m protoreflect.MethodDescriptor) (Rule, bool) {
	if !proto.HasExtension(m.Options(), accessv1.E_Rule) {
		return Rule{}, false
	}
	r, ok := proto.GetExtension(m.Options(), accessv1.E_Rule).(*accessv1.Rule)
	if !ok {
		return Rule{}, false
	}
	switch k := r.GetKind().(type) {
	case *accessv1.Rule_Public:
		return Rule{Public: k.Public}, k.Public
	case *accessv1.Rule_Authenticated:
		return Rule{Authenticated: k.Authenticated}, k.Authenticated
	case *accessv1.Rule_Permission:
		return Rule{Permission: k.Permission}, k.Permission != ""
	default:
		return Rule{}, false
	}
}
