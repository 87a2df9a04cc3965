package suitetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/purserhq/purser/services/devstack/suite"
)

// checkout is the root of the repository.
const checkout = "../../.."

// grpcurl is the path of the pinned grpcurl.
type grpcurl string

// buildGrpcurl builds grpcurl and the protoset with make, as in the docs, and returns their folder.
var buildGrpcurl = sync.OnceValues(func() (string, error) {
	if out, err := exec.Command("make", "-C", checkout, "protoset", "grpcurl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make protoset grpcurl: %w\n%s", err, out)
	}
	return filepath.Abs(filepath.Join(checkout, "bin"))
})

func makeGrpcurl(t *testing.T) (run grpcurl, protoset string) {
	t.Helper()
	bin, err := buildGrpcurl()
	if err != nil {
		t.Fatal(err)
	}
	return grpcurl(filepath.Join(bin, "grpcurl")), filepath.Join(bin, "purser.protoset")
}

func (g grpcurl) call(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), string(g),
		append([]string{"-plaintext"}, args...)...).CombinedOutput()
	return string(out), err
}

func TestAServerWithoutReflectionIsCalledWithTheProtoset(t *testing.T) {
	t.Parallel()
	off := []string{"PURSER_GRPC_REFLECTION=false"}
	s := start(t, func(o *suite.Options) { o.Extra = map[string][]string{"wallet": off} })
	run, protoset := makeGrpcurl(t)
	const list = "purser.wallet.v1.WalletService/ListWallets"

	// The control: without the protoset grpcurl knows no methods.
	for _, args := range [][]string{{s.Endpoints.Wallet, "list"}, {s.Endpoints.Wallet, list}} {
		if out, err := run.call(t, args...); err == nil ||
			!strings.Contains(out, "does not support the reflection API") {
			t.Errorf("grpcurl %v without the protoset: %v\n%s", args, err, out)
		}
	}
	if out, err := run.call(t, s.Endpoints.Auth, "list"); err != nil {
		t.Errorf("the service with reflection: %v\n%s", err, out)
	}

	_, tokens := signIn(t, dial(t, s.Endpoints))
	for name, tt := range map[string]struct {
		args []string
		want []string // of the output
	}{
		"a call": {[]string{"-emit-defaults", "-H", "authorization: Bearer " + tokens.GetAccessToken(),
			s.Endpoints.Wallet, list}, []string{`"wallets": []`}},
		"a refusal": {[]string{s.Endpoints.Wallet, list},
			[]string{"Code: Unauthenticated", `"@type": "type.googleapis.com/google.rpc.ErrorInfo"`,
				`"reason": "TOKEN_MISSING"`, `"domain": "purser"`}},
		"list": {[]string{"list"}, []string{"purser.auth.v1.SessionService", "purser.wallet.v1.WalletService",
			"purser.portfolio.v1.PortfolioService"}},
		"describe": {[]string{"describe", "purser.wallet.v1.CreateWalletRequest"},
			[]string{"string account = 1", "buf.validate.field"}},
		"who may": {[]string{"describe", "purser.wallet.v1.WalletService.ListWallets"}, []string{"wallet:read"}},
		"a bad input": {[]string{"-H", "authorization: Bearer " + tokens.GetAccessToken(), "-d", `{"pageSize":-1}`,
			s.Endpoints.Wallet, list}, []string{"Code: InvalidArgument",
			`"@type": "type.googleapis.com/google.rpc.BadRequest"`, `"field": "page_size"`}},
	} {
		out, err := run.call(t, append([]string{"-protoset", protoset}, tt.args...)...)
		if refused := strings.HasPrefix(tt.want[0], "Code: "); (err != nil) != refused {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not print %s:\n%s", name, want, out)
			}
		}
	}
	// The control: grpcurl knows the details of an error from the protoset only.
	without := withoutErrorDetails(t, protoset)
	if out, err := run.call(t, "-protoset", without, s.Endpoints.Wallet, list); err == nil ||
		!strings.Contains(out, "Code: Unauthenticated") || strings.Contains(out, "TOKEN_MISSING") {
		t.Errorf("an error with a protoset without google.rpc: %v\n%s", err, out)
	}
}

// withoutErrorDetails is a copy of the protoset without the files of google.rpc.
func withoutErrorDetails(t *testing.T, protoset string) string {
	t.Helper()
	b, err := os.ReadFile(protoset)
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(b, set); err != nil {
		t.Fatal(err)
	}
	set.File = slices.DeleteFunc(set.GetFile(), func(f *descriptorpb.FileDescriptorProto) bool {
		return strings.HasPrefix(f.GetName(), "google/rpc/")
	})
	if b, err = proto.Marshal(set); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "without.protoset")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
