package policy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/purserhq/purser/proto/gen/purser/jobs/v1" // linked, so that its descriptors are registered
)

// boundedOtherwise are the lists that don't end by [page.Cut], and what ends them.
var boundedOtherwise = map[string]string{
	"ApiKeyService.ListApiKeys":              "50 keys of a user, with names of 80 characters",
	"AdminService.ListUserApiKeys":           "as ListApiKeys",
	"AdminService.ListUserIdentities":        "as ListIdentities",
	"AdminService.ListSigningKeys":           "rotation removes keys that no token needs",
	"AdminService.WatchAuditEvents":          "500 events in a message, whose texts are cut where they are recorded",
	"IdentityService.ListIdentities":         "20 identities of a user",
	"TokenService.GetJwks":                   "the keys of ListSigningKeys",
	"TokenService.WatchRevocations":          "1,000 revocations in a message, which have ids only",
	"DeletionService.ListDeletions":          "1,000 rows of two ids and a time",
	"DeletionService.FindDeletedUsers":       "1,000 ids in the request",
	"StatusService.GetStatus":                "the jobs and dependencies of a service",
	"JobService.ListJobRuns":                 "jobs.Runner.Page ends its pages by page.MaxBytes itself",
	"AlertService.AcknowledgeAlerts":         "100 ids in the request",
	"AlertService.WatchAlerts":               "the feed ends a message after 500 changes",
	"AlertService.ListWebhookEndpoints":      "10 endpoints of a user, with URLs of 2,000 characters",
	"PortfolioService.GetTimeline":           "5,000 points, which have numbers only",
	"PortfolioService.GetAllocationHistory":  "points times series, which have numbers only",
	"LotService.GetPnl":                      "5,000 rows, which have ids and numbers only",
	"DefiService.GetProtocolBreakdown":       "the markets that the deployment has set",
	"TokenService.ListChains":                "the chains and nodes that the deployment has set",
	"PriceService.GetPrices":                 "500 ids in the request",
	"PriceService.ListPriceHistory":          "hours in a page, which have numbers only",
	"PriceService.ImportPrices":              "1,000 rows in the request",
	"TransactionService.StreamTransactions":  "500 movements in a message, whose tokens have short texts",
	"HoldingsService.GetHoldings":            "holdingsPage ends pages by page.MaxBytes itself",
	"HoldingsService.ListHistoricalHoldings": "historyPage ends pages by page.MaxBytes itself",
	"HoldingsService.StreamHoldings":         "holdingsPage ends messages by page.MaxBytes itself",
	"HoldingsService.WatchChanges":           "the feed ends a message after 500 changes",
}

// A list that only a number ends can be larger than a message may be: what it lists has texts of users, or of
// contracts. So the handler of each list calls page.Cut, which ends a page by its bytes too, or it is in
// boundedOtherwise.
func TestEveryListEndsByItsBytes(t *testing.T) {
	calls := handlerCalls(t)
	var found, used []string
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for s := range f.Services().Len() {
			for m := range f.Services().Get(s).Methods().Len() {
				method := f.Services().Get(s).Methods().Get(m)
				if !strings.HasPrefix(string(f.Package()), "purser.") || !lists(method.Output()) {
					continue
				}
				name := fmt.Sprintf("%s.%s", method.Parent().Name(), method.Name())
				used = append(used, name)
				if !reaches(calls, string(method.Name()), "page.Cut") && boundedOtherwise[name] == "" {
					found = append(found, fmt.Sprintf("%s lists what page.Cut does not end: call it, or say in "+
						"boundedOtherwise what bounds the answer", method.FullName()))
				}
			}
		}
		return true
	})
	for name := range boundedOtherwise {
		if !slices.Contains(used, name) {
			found = append(found, name+" in boundedOtherwise is no list")
		}
	}
	if len(used) < 40 {
		t.Errorf("only %d lists were found", len(used))
	}
	report(t, found)
}

// lists reports whether a message has a repeated message.
func lists(m protoreflect.MessageDescriptor) bool {
	for i := range m.Fields().Len() {
		if f := m.Fields().Get(i); f.IsList() && f.Message() != nil {
			return true
		}
	}
	return false
}

// handlerCalls are the names that each function of the packages of handlers calls, by its own name.
func handlerCalls(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, s := range sources(t, ".go") {
		if s.isTest() || !strings.Contains(s.path, "/internal/rpc/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), s.path, s.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok {
					out[fn.Name.Name] = append(out[fn.Name.Name], calledName(c.Fun))
				}
				return true
			})
		}
	}
	return out
}

// calledName is the name of a function, with that of its package or variable before it.
func calledName(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		return f.Sel.Name
	case *ast.IndexExpr:
		return calledName(f.X)
	case *ast.IndexListExpr:
		return calledName(f.X)
	}
	return ""
}

// reaches reports whether a function calls another one by name, or a function of the same packages that does.
func reaches(calls map[string][]string, from, to string) bool {
	for _, name := range calls[from] {
		if name == to || name != from && calls[name] != nil && slices.Contains(calls[name], to) {
			return true
		}
	}
	return false
}
