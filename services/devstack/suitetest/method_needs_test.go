package suitetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	accessv1 "github.com/purserhq/purser/proto/gen/purser/access/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// need is what a method asks of its caller beside the permission of its rule.
type need int

const (
	anybody  need = iota // a public method
	signedIn             // a person, an API key or a service account
	person               // no API key, and no service account
	recent               // a person who proved in the last ten minutes that they are there
	operator             // recent, or a service account
)

// otherNeeds are the methods that need less than what they change suggests, with the reason. A new method that is not
// listed is for persons if it reads, and for a recent sign-in if it changes something.
func otherNeeds() map[string]struct {
	need   need
	reason string
} {
	type less = struct {
		need   need
		reason string
	}
	return map[string]less{
		"/purser.auth.v1.AccountService/GetMe":              {signedIn, "reads whose token it is"},
		"/purser.auth.v1.TokenService/Introspect":           {signedIn, "is called by verifiers, as themselves"},
		"/purser.auth.v1.SessionService/Logout":             {signedIn, "ends the authority of the token itself"},
		"/purser.auth.v1.AccountService/UpdateProfile":      {person, "nobody is locked out by it"},
		"/purser.auth.v1.AccountService/ChangePassword":     {person, "asks for the password"},
		"/purser.auth.v1.SessionService/Reauthenticate":     {person, "is how a sign-in becomes recent"},
		"/purser.auth.v1.SessionService/LogoutAll":          {person, "takes authority and gives none"},
		"/purser.auth.v1.SessionService/RevokeSession":      {person, "takes authority and gives none"},
		"/purser.auth.v1.ApiKeyService/RevokeApiKey":        {person, "takes authority and gives none"},
		"/purser.auth.v1.IdentityService/EndEverything":     {person, "takes authority and gives none"},
		"/purser.auth.v1.IdentityService/KeepSecondFactor":  {person, "keeps what an attacker wants removed"},
		"/purser.auth.v1.AccountService/ConfirmEmailChange": {person, "needs the mailed code"},
		"/purser.auth.v1.DeletionService/ReportErasure":     {signedIn, "reports on the caller's own data"},
	}
}

// method is a method that a service of the suite serves, with what it asks of its callers.
type method struct {
	servedMethod
	full       string
	need       need
	permission string // "" for none
	changes    bool   // something; a method that is not said to have no side effects
	conn       *grpc.ClientConn
}

// name is short, and says which service serves it when several do.
func (m method) name(s *suite.Suite) string {
	where := ""
	if p := m.ParentFile().Package(); p == "purser.jobs.v1" || p == "purser.status.v1" {
		where = map[string]string{s.Endpoints.Auth: " of auth", s.Endpoints.Wallet: " of wallet",
			s.Endpoints.Portfolio: " of portfolio"}[m.addr]
	}
	return fmt.Sprintf("%s.%s%s", m.Parent().Name(), m.Name(), where)
}

// methods returns every method of the suite, of the contracts' descriptors.
func methods(t *testing.T, s *suite.Suite) []method {
	t.Helper()
	if n := (&accessv1.Rule{}).ProtoReflect().Descriptor().Fields().Len(); n != 3 {
		t.Fatalf("access rules are of %d kinds: teach this test the new one", n)
	}
	conns, others := map[string]*grpc.ClientConn{}, otherNeeds()
	var all []method
	for _, served := range servedMethods(s.Endpoints) {
		conn, ok := conns[served.addr]
		if !ok {
			var err error
			conn, err = grpc.NewClient("passthrough:///"+served.addr,
				grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			conns[served.addr] = conn
		}
		m := method{servedMethod: served, full: fmt.Sprintf("/%s/%s", served.Parent().FullName(), served.Name()),
			conn: conn}
		options, _ := served.Options().(*descriptorpb.MethodOptions)
		m.changes = options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		m.need, m.permission = needOf(t, m)
		if other, ok := others[m.full]; ok {
			m.need = other.need
			delete(others, m.full)
		}
		all = append(all, m)
	}
	for full := range others {
		t.Errorf("%s is listed in otherNeeds and is no method", full)
	}
	return all
}

// needOf is what the rule of a method and what it does ask for.
func needOf(t *testing.T, m method) (need, string) {
	t.Helper()
	pkg := m.ParentFile().Package()
	ofAuth := pkg == "purser.auth.v1"
	rule, _ := proto.GetExtension(m.Options(), accessv1.E_Rule).(*accessv1.Rule)
	switch k := rule.GetKind().(type) {
	case *accessv1.Rule_Public:
		return anybody, ""
	case *accessv1.Rule_Authenticated:
		switch {
		case ofAuth && m.changes:
			return recent, ""
		case ofAuth:
			return person, ""
		}
		return signedIn, ""
	case *accessv1.Rule_Permission:
		if m.changes && (ofAuth || pkg == "purser.jobs.v1") {
			return operator, k.Permission
		}
		return signedIn, k.Permission
	}
	t.Fatalf("%s has no access rule that this test knows: %v", m.full, rule)
	return 0, ""
}

// call calls a method with an authorization header, or several.
func (m method) call(ctx context.Context, in *dynamicpb.Message, header ...string) error {
	ctx, cancel := context.WithCancel(sending(ctx, header...))
	defer cancel()
	out := dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return m.conn.Invoke(ctx, m.full, in, out)
	}
	stream, err := m.open(ctx, in)
	if err != nil {
		return err
	}
	return stream.RecvMsg(out)
}

// open opens the stream of a method.
func (m method) open(ctx context.Context, in *dynamicpb.Message) (grpc.ClientStream, error) {
	stream, err := m.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, m.full)
	if err != nil {
		return nil, err
	}
	return stream, errors.Join(stream.SendMsg(in), stream.CloseSend())
}

// request is a valid request of a method; an empty one of a public method, which doesn't look at callers, so that no
// accounts are made and no passwords hashed.
func (m method) request(t *testing.T, values ...targets) *dynamicpb.Message {
	t.Helper()
	if m.need == anybody {
		return dynamicpb.NewMessage(m.Input())
	}
	all := targets{}
	for _, some := range values {
		for name, value := range some {
			all[name] = value
		}
	}
	return example(t, m, all)
}
