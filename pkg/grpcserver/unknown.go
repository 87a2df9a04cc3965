package grpcserver

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

// methods are those that are registered on a server: the methods of each service.
// It is read once, at the first call.
type methods struct {
	server func() *grpc.Server
	read   func() map[string][]string
	// measured are the series of each method by its full name, and those of all others.
	measured func() map[string]*series
	others   *series
}

func newMethods(server func() *grpc.Server) *methods {
	m := &methods{server: server, others: newSeries(unknownMethod)}
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
	m.measured = sync.OnceValue(func() map[string]*series {
		all := map[string]*series{}
		for service, names := range m.read() {
			for _, name := range names {
				all["/"+service+"/"+name] = newSeries(service + "/" + name)
			}
		}
		return all
	})
	return m
}

// traced keeps methods that don't exist out of traces: callers choose their names.
func (m *methods) traced(i *stats.RPCTagInfo) bool {
	_, known := m.measured()[i.FullMethodName]
	return known
}

// series returns those of a method, and of all unknown ones together.
func (m *methods) series(fullMethod string) *series {
	if s, known := m.measured()[fullMethod]; known {
		return s
	}
	return m.others
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
