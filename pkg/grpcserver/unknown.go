package grpcserver

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

// methods are those that are registered on a server: the methods of each service.
// It is read once, at the first call.
type methods struct {
	server func() *grpc.Server
	read   func() map[string][]string
	// known is what is worked out once of each method, by its full name; others is all that are unknown.
	known  func() map[string]*method
	others *method
}

// method is what a server knows of one of its methods.
type method struct {
	series  *series
	rule    Rule
	hasRule bool
	// span is the name of its spans, and spanOptions the kind and the attributes that they begin with. Without a name
	// it has none.
	span        string
	spanOptions []trace.SpanStartOption
}

// newMethods reads the methods of a server, and the rules of them.
func newMethods(server func() *grpc.Server, rules func(fullMethod string) (Rule, bool)) *methods {
	m := &methods{server: server, others: &method{series: newSeries(unknownMethod)}}
	m.read = sync.OnceValue(func() map[string][]string {
		all := map[string][]string{}
		for name, info := range m.server().GetServiceInfo() {
			all[name] = []string{}
			for _, method := range info.Methods {
				all[name] = append(all[name], method.Name)
			}
			slices.Sort(all[name])
		}
		return all
	})
	m.known = sync.OnceValue(func() map[string]*method {
		all := map[string]*method{}
		for service, names := range m.read() {
			for _, name := range names {
				name = service + "/" + name
				of := &method{series: newSeries(name), span: name, spanOptions: spanOptions(name)}
				of.rule, of.hasRule = rules("/" + name)
				all["/"+name] = of
			}
		}
		return all
	})
	return m
}

// of returns what is known of a method, and one value for all unknown ones: callers choose their names.
func (m *methods) of(fullMethod string) *method {
	if known, ok := m.known()[fullMethod]; ok {
		return known
	}
	return m.others
}

// rule returns a method's rule, as Deps.Rules does: to read it off a descriptor takes longer than the layers do.
func (m *methods) rule(fullMethod string) (Rule, bool) {
	of := m.of(fullMethod)
	return of.rule, of.hasRule
}

// refuse answers a call of a method that doesn't exist: UNIMPLEMENTED with the
// reason SERVICE_UNKNOWN or METHOD_UNKNOWN, and what there is instead.
func (m *methods) refuse(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	return m.unknown(full).Err()
}

func (m *methods) unknown(full string) *status.Status {
	service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	reason, text := m.explain(service, method)
	s := status.New(codes.Unimplemented, text)
	if detailed, err := s.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: grpcerr.Domain}); err == nil {
		return detailed
	}
	return s
}

func (m *methods) explain(service, method string) (reason, text string) {
	all := m.read()
	if names, known := all[service]; known {
		text = fmt.Sprintf("%s has no such method, %s; it has %s", service, errs.Given(method),
			strings.Join(names, ", "))
		if i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, method) }); i >= 0 {
			text = fmt.Sprintf("%s has no such method, %s; its name is %s, in this case", service,
				errs.Given(method), names[i])
		}
		return "METHOD_UNKNOWN", text
	}
	var served []string
	for name := range all {
		if !isInfrastructure("/" + name + "/") {
			served = append(served, name)
		}
	}
	slices.Sort(served)
	return "SERVICE_UNKNOWN", fmt.Sprintf("this server has no such service, %s; it serves %s", errs.Given(service),
		strings.Join(served, ", "))
}
