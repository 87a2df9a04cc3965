package grpcserver_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) {
	testkit.Children(map[string]func(context.Context, []string) error{"replica": serveAlone})
	testkit.LeakFree(m)
}

// The methods of the made-up service.
const (
	open   = "/test.v1.Echo/Open"   // public
	mine   = "/test.v1.Echo/Mine"   // authenticated
	read   = "/test.v1.Echo/Read"   // permission echo:read
	stream = "/test.v1.Echo/Stream" // permission echo:read
)

func rules(method string) (grpcserver.Rule, bool) {
	r, ok := map[string]grpcserver.Rule{
		open: {Public: true}, mine: {Authenticated: true},
		read: {Permission: "echo:read"}, stream: {Permission: "echo:read"},
	}[method]
	return r, ok
}

// note is a message {string text} whose text has 1 to 5 characters and whose
// count is at most 9, by the rules of protovalidate.
var note = sync.OnceValue(func() protoreflect.MessageDescriptor {
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, repeated bool,
		r *validate.FieldRules) *descriptorpb.FieldDescriptorProto {
		o := &descriptorpb.FieldOptions{}
		proto.SetExtension(o, validate.E_Field, r)
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if repeated {
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: kind.Enum(), Label: label.Enum(),
			Options: o}
	}
	lengths := (&validate.StringRules_builder{MinLen: proto.Uint64(1), MaxLen: proto.Uint64(5)}).Build()
	text := (&validate.FieldRules_builder{String: lengths}).Build()
	count := (&validate.FieldRules_builder{Int32: (&validate.Int32Rules_builder{Lte: proto.Int32(9)}).Build()}).Build()
	tags := (&validate.FieldRules_builder{Repeated: (&validate.RepeatedRules_builder{Items: text}).Build()}).Build()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("test/v1/note.proto"), Package: proto.String("test.v1"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Note"),
			Field: []*descriptorpb.FieldDescriptorProto{
				field("text", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, false, text),
				field("count", 2, descriptorpb.FieldDescriptorProto_TYPE_INT32, false, count),
				field("tags", 3, descriptorpb.FieldDescriptorProto_TYPE_STRING, true, tags),
			}}},
	}, nil)
	if err != nil {
		panic(err)
	}
	return file.Messages().Get(0)
})

func newNote(text string) *dynamicpb.Message {
	m := dynamicpb.NewMessage(note())
	m.Set(note().Fields().ByName("text"), protoreflect.ValueOfString(text))
	return m
}

func textOf(m *dynamicpb.Message) string { return m.Get(note().Fields().ByName("text")).String() }

// echo is what the methods do; nil answers the request itself.
type echo struct {
	unary  func(ctx context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error)
	stream func(grpc.ServerStream) error
}

func (e echo) desc() *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: "test.v1.Echo", HandlerType: (*any)(nil)}
	for _, full := range []string{open, mine, read} {
		d.Methods = append(d.Methods, grpc.MethodDesc{
			MethodName: full[strings.LastIndex(full, "/")+1:],
			Handler: func(srv any, ctx context.Context, dec func(any) error, ic grpc.UnaryServerInterceptor) (any,
				error) {
				in := dynamicpb.NewMessage(note())
				if err := dec(in); err != nil {
					return nil, err
				}
				return ic(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: full},
					func(ctx context.Context, req any) (any, error) {
						if e.unary == nil {
							return req, nil
						}
						return e.unary(ctx, req.(*dynamicpb.Message))
					})
			},
		})
	}
	d.Streams = []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, ss grpc.ServerStream) error {
			if e.stream != nil {
				return e.stream(ss)
			}
			for {
				in := dynamicpb.NewMessage(note())
				if err := ss.RecvMsg(in); err == io.EOF { //nolint:errorlint // gRPC returns it bare
					return nil
				} else if err != nil {
					return err
				}
				if err := ss.SendMsg(in); err != nil {
					return err
				}
			}
		}}}
	return d
}

// tokens is a verifier of made-up tokens.
type tokens map[string]authn.Caller

func (v tokens) Verify(_ context.Context, token string) (authn.Caller, error) {
	switch c, ok := v[token]; {
	case token == "":
		return authn.Caller{}, errs.Unauthenticated("TOKEN_MISSING", "a token is needed")
	case token == "panic":
		panic("the verifier fell over")
	case !ok:
		return authn.Caller{}, errs.Unauthenticated("TOKEN_INVALID", "the token is not valid")
	default:
		return c, nil
	}
}

func known() tokens {
	reader := authn.Caller{UserID: uuid.MustParse("0190c0de-0000-7000-8000-00000000000a"),
		Permissions: []string{"echo:read"}}
	plain := authn.Caller{UserID: uuid.MustParse("0190c0de-0000-7000-8000-00000000000b")}
	return tokens{"reader-secret": reader, "plain-secret": plain}
}

// logbook is a log of JSON lines.
type logbook struct{ testkit.LogBuffer }

// lines are those with this message.
func (l *logbook) lines(t testing.TB, msg string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if v["msg"] == msg {
			found = append(found, v)
		}
	}
	return found
}

func plaintext() grpcserver.Config {
	return grpcserver.Config{
		Plaintext: true, Reflection: true, MinTimeout: time.Millisecond, MaxTimeout: 30 * time.Second,
		RatePerSecond: 1000, Burst: 1000,
	}
}

// running is a server on the loopback with a client's connection to it.
type running struct {
	*grpcserver.Server
	conn *grpc.ClientConn
	addr string
	log  *logbook
}

func start(t *testing.T, cfg grpcserver.Config, e echo, change ...func(*grpcserver.Deps)) *running {
	t.Helper()
	r := &running{log: &logbook{}}
	d := grpcserver.Deps{Rules: rules, Verifier: known(), Log: slog.New(slog.NewJSONHandler(r.log, nil))}
	for _, f := range change {
		f(&d)
	}
	s, err := grpcserver.New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	s.RegisterService(e.desc(), e)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	r.Server, r.addr = s, lis.Addr().String()
	r.conn, err = grpc.NewClient(r.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.conn.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// as returns a context with the authorization headers.
func as(t testing.TB, authorization ...string) context.Context {
	t.Helper()
	md := metadata.MD{}
	for _, a := range authorization {
		md.Append("authorization", a)
	}
	return metadata.NewOutgoingContext(t.Context(), md)
}

// call calls a unary method and returns the typed error.
func (r *running) call(ctx context.Context, method string, in *dynamicpb.Message) (*dynamicpb.Message, *errs.Error) {
	out := dynamicpb.NewMessage(note())
	if err := r.conn.Invoke(ctx, method, in, out, grpc.MaxCallSendMsgSize(64<<20)); err != nil {
		return nil, errs.As(grpcerr.FromError(err))
	}
	return out, nil
}

func (r *running) openStream(ctx context.Context, t testing.TB) grpc.ClientStream {
	t.Helper()
	s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, stream)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exchange sends a note on a stream and waits for one back.
func exchange(s grpc.ClientStream, in *dynamicpb.Message) *errs.Error {
	_ = s.SendMsg(in) // RecvMsg tells why it failed
	if err := s.RecvMsg(dynamicpb.NewMessage(note())); err != nil {
		return errs.As(grpcerr.FromError(err))
	}
	return nil
}

func reason(e *errs.Error) string {
	if e == nil {
		return ""
	}
	return e.Reason
}
