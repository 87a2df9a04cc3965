package access_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// methods lists those of our services, by full name.
func methods(t *testing.T) map[string][]string {
	t.Helper()
	byService := map[string][]string{}
	for _, f := range []protoreflect.FileDescriptor{ // so that they are linked
		authv1.File_purser_auth_v1_token_service_proto,
		walletv1.File_purser_wallet_v1_wallet_service_proto,
		portfoliov1.File_purser_portfolio_v1_portfolio_service_proto,
	} {
		protoregistry.GlobalFiles.RangeFilesByPackage(f.Package(), func(f protoreflect.FileDescriptor) bool {
			for i := range f.Services().Len() {
				s := f.Services().Get(i)
				for j := range s.Methods().Len() {
					name := string(s.FullName())
					byService[name] = append(byService[name], "/"+name+"/"+string(s.Methods().Get(j).Name()))
				}
			}
			return true
		})
	}
	if len(byService) < 3 {
		t.Fatalf("only %d services are linked", len(byService))
	}
	return byService
}

func TestEveryMethodHasExactlyOneRule(t *testing.T) {
	for _, names := range methods(t) {
		for _, name := range names {
			r, ok := access.Lookup(name)
			kinds := 0
			for _, set := range []bool{r.Public, r.Authenticated, r.Permission != ""} {
				if set {
					kinds++
				}
			}
			if !ok || kinds != 1 {
				t.Errorf("%s: %+v, %t", name, r, ok)
			}
		}
	}
}

func TestTheRulesAreThoseOfTheContracts(t *testing.T) {
	for method, want := range map[string]access.Rule{
		authv1.SessionService_Refresh_FullMethodName:       {Public: true},
		authv1.SessionService_Logout_FullMethodName:        {Authenticated: true},
		walletv1.WalletService_ListWallets_FullMethodName:  {Permission: "wallet:read"},
		walletv1.WalletService_CreateWallet_FullMethodName: {Permission: "wallet:write"},
	} {
		if got, ok := access.Lookup(method); !ok || got != want {
			t.Errorf("%s: %+v, %t; want %+v", method, got, ok, want)
		}
	}
}

func TestWhatIsNoMethodOfOursHasNoRule(t *testing.T) {
	for name, method := range map[string]string{
		"nothing":                   "",
		"a slash":                   "/",
		"a method that isn't there": "/purser.wallet.v1.WalletService/Frobnicate",
		"a service alone":           "/purser.wallet.v1.WalletService",
		"a service with no method":  "/purser.wallet.v1.WalletService/",
		"a message":                 "/purser.wallet.v1/Wallet",
		"a message's field":         "/purser.wallet.v1.Wallet/name",
		"gRPC's health service":     "/grpc.health.v1.Health/Check",
		"the name cut elsewhere":    "/purser.wallet.v1/WalletService.ListWallets",
		"in another case":           "/purser.wallet.v1.WalletService/listwallets",
		"a path that climbs":        "/purser.wallet.v1.WalletService/../ListWallets",
	} {
		t.Run(name, func(t *testing.T) {
			if r, ok := access.Lookup(method); ok || r != (access.Rule{}) {
				t.Errorf("%q: %+v", method, r)
			}
		})
	}
}

func TestIdempotentListsTheMethodsThatMayBeRepeated(t *testing.T) {
	for service, all := range methods(t) {
		got := access.Idempotent(service)
		if !slices.IsSorted(got) {
			t.Errorf("%s: %v is not sorted", service, got)
		}
		for _, m := range all {
			verb := m[strings.LastIndex(m, "/")+1:]
			reads := strings.HasPrefix(verb, "Get") || strings.HasPrefix(verb, "List") ||
				strings.HasPrefix(verb, "BatchGet")
			if reads && !slices.Contains(got, m) {
				t.Errorf("%s reads and isn't listed", m)
			}
			if strings.HasPrefix(verb, "Create") && slices.Contains(got, m) {
				t.Errorf("%s creates and is listed", m)
			}
		}
		for _, m := range got {
			if !slices.Contains(all, m) {
				t.Errorf("%s is no method of %s", m, service)
			}
		}
	}
	for _, none := range []string{"", "purser.wallet.v1.Nothing", "purser.wallet.v1.Wallet", "purser.wallet.v1"} {
		if got := access.Idempotent(none); got != nil {
			t.Errorf("%q: %v", none, got)
		}
	}
}

func TestAMethodChangesSomethingUnlessItsContractSaysThatItDoesNot(t *testing.T) {
	for method, want := range map[string]bool{
		authv1.SessionService_ListSessions_FullMethodName:     false,
		authv1.TokenService_Introspect_FullMethodName:         false,
		authv1.SessionService_Logout_FullMethodName:           true, // repeated without harm
		walletv1.WalletService_CreateWallet_FullMethodName:    true,
		"/purser.wallet.v1.WalletService/ThatThereIsNot":      true,
		"/purser.wallet.v1.WalletService.ListWallets/nothing": true,
	} {
		if got := access.Changes(method); got != want {
			t.Errorf("%s: %t", method, got)
		}
	}
}
