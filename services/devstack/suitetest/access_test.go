package suitetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/suite"
)

// servedMethod is a method and the address of a service that serves it.
type servedMethod struct {
	protoreflect.MethodDescriptor
	addr string
}

// servedMethods are all methods of the suite's contracts. Those of JobService and StatusService are listed once
// for each service.
func servedMethods(e suite.Endpoints) []servedMethod {
	every := []string{e.Auth, e.Wallet, e.Portfolio}
	addresses := map[protoreflect.FullName][]string{
		"purser.auth.v1": every[:1], "purser.wallet.v1": every[1:2], "purser.portfolio.v1": every[2:],
		"purser.jobs.v1": every, "purser.status.v1": every,
	}
	var all []servedMethod
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		addrs, known := addresses[f.Package()]
		if !known && strings.HasPrefix(string(f.Package()), "purser.") {
			addrs = []string{"127.0.0.1:1"} // so that a contract that is missing above fails the tests
		}
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				for _, addr := range addrs {
					all = append(all, servedMethod{methods.Get(j), addr})
				}
			}
		}
		return true
	})
	return all
}

// invokeWith calls a method with a token.
func invokeWith(t *testing.T, s *suite.Suite, m servedMethod, token string,
	in *dynamicpb.Message) error {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+m.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := t.Context()
	if token != "" {
		ctx = grpcclient.WithToken(ctx, token)
	}
	full, out := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return conn.Invoke(ctx, full, in, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(in), stream.CloseSend()); err != nil {
		return err
	}
	return stream.RecvMsg(out)
}

// publishedKey adds a key of the test to the suite's key set.
func publishedKey(t *testing.T, s *suite.Suite) (kid string, private ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kid = "key-of-a-test-" + rand.Text()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_auth"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `
		INSERT INTO signing_keys (kid, issuer, algorithm, state, public_key, created_at, published_at)
		VALUES ($1, $2, 'EdDSA', 'STANDBY', $3, now(), now())`, kid, s.Issuer(), []byte(public))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		resp, err := http.Get("http://" + s.Endpoints.AuthHTTP + "/.well-known/jwks.json")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), kid)
	})
	return kid, private
}
