package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// adapters are the packages inside services that speak to the outside; all
// others under internal are the domain.
func adapters() map[string]string {
	return map[string]string{
		"rpc":      "turns protobuf messages into domain types and back",
		"store":    "keeps rows in Postgres",
		"holdings": "calls the wallet service over gRPC",
		"chain":    "reads balances over JSON-RPC",
		"llama":    "reads prices over HTTP",

		"coingecko": "reads prices over HTTP",
		"pricefeed": "is what these two share",

		"web": "serves the key set and the hosted sign-in over HTTP",
		"idp": "asks identity providers over HTTP",
	}
}

// bridges are library packages that a domain may import though they reach
// something that it may not.
func bridges() map[string]string {
	return map[string]string{
		"pkg/cache": "what is cached under which key and for how long is a rule of the domain; the client that the " +
			"cache works on comes from app",
	}
}

// outside is what the domain may not reach, by import path or its beginning.
func outside() map[string]string {
	return map[string]string{
		"google.golang.org/grpc":           "gRPC",
		"google.golang.org/protobuf":       "protobuf",
		"gorm.io/":                         "gorm",
		"github.com/jackc/":                "the Postgres driver",
		"github.com/redis/":                "Redis",
		ours + "proto/":                    "generated code",
		"github.com/prometheus/":           "Prometheus",
		"github.com/go-co-op/gocron":       "the scheduler",
		"go.opentelemetry.io/otel/sdk":     "the telemetry SDK",
		"buf.build/gen/go/bufbuild/protov": "generated code",
	}
}

// breaches checks the imports of a tree against the rules and tells each
// breach with its reason.
func breaches(g graph) []string {
	var found []string
	tell := func(from, to, reason string) {
		found = append(found, fmt.Sprintf("%s imports %s: %s", short(from), short(to), reason))
	}
	for _, path := range slices.Sorted(maps.Keys(g)) {
		p := g[path]
		if !strings.HasPrefix(path, ours) {
			continue
		}
		for _, to := range p.Imports {
			edge(path, to, false, tell)
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			edge(path, to, true, tell)
		}
		if domain(path) {
			if way, what := reach(g, path); way != nil {
				tell(path, strings.Join(way, " → "), "the domain is plain Go and reaches no "+what+
					", so that its rules can be read and tested alone; speak to the outside in an adapter (rpc, "+
					"store, …) and declare the interface here")
			}
		}
	}
	return found
}

// edge checks one import, by its two ends alone.
func edge(from, to string, test bool, tell func(from, to, reason string)) {
	if !strings.HasPrefix(to, ours) {
		return
	}
	a, b := place(from), place(to)
	switch {
	case a.module == "proto" && b.module != "proto":
		tell(from, to, "the contracts import nothing of ours, so that a client of another team takes them alone")
	case a.module == "pkg" && b.module != "pkg":
		tell(from, to, "the library knows no contract and no service, so that another team takes it alone; pass "+
			"what it needs as a function or a type")
	case a.service == shared && b.service != "" && b.service != shared:
		tell(from, to, "what the services share knows none of them; pass what it needs as a function or a type")
	case a.service != "" && a.service != "devstack" && b.service != "" && b.service != a.service &&
		b.service != shared:
		tell(from, to, "a service reaches another one over gRPC only, so that each is deployed alone")
	case a.module == client && b.module == "services":
		tell(from, to, "the client knows the contracts alone, so that another team's program takes no service with it")
	case b.module == client && a.service != "" && a.service != "devstack":
		tell(from, to, "the client is for other teams' programs and brings the library along; a service dials what "+
			"it calls by pkg/grpcclient")
	case a.module == "k8s" && b.service != "":
		tell(from, to, "what is deployed are the programs: its tests run those")
	case a.service == "devstack" && b.service != "" && b.service != "devstack" && b.service != shared &&
		b.rest != "app":
		tell(from, to, "devstack starts the services as they are, through services/"+b.service+"/app")
	case !test && testkit(to) && !testkit(from) && a.service != "devstack":
		tell(from, to, "the test kit starts servers and is no part of a deployed binary; only tests and devstack "+
			"use it")
	case adapter(to) && domain(from) && a.service == b.service && !test:
		tell(from, to, "adapters depend on the domain, never the other way round: rpc → domain ← store")
	}
}

// shared is the folder within services of the module that only services import.
const shared = "internal"

// client is the module that lies within the contracts' folder.
const client = "proto/client"

type where struct{ module, service, rest string }

// place takes an import path of ours apart.
func place(path string) where {
	rest := strings.TrimPrefix(path, ours)
	if own, ok := strings.CutPrefix(rest+"/", client+"/"); ok {
		return where{module: client, rest: strings.TrimSuffix(own, "/")}
	}
	module, rest, _ := strings.Cut(rest, "/")
	if module != "services" {
		return where{module: module, rest: rest}
	}
	service, rest, _ := strings.Cut(rest, "/")
	return where{module: "services", service: service, rest: rest}
}

// testkit reports whether a package is for tests and devstack only.
func testkit(path string) bool {
	return path == ours+"pkg/testkit" || strings.HasPrefix(path, ours+"pkg/testkit/") ||
		path == ours+"services/internal/mailserver" || path == ours+"services/internal/servicetest"
}

// inner returns the name of a package under a service's internal folder.
func inner(path string) (name string, ok bool) {
	w := place(path)
	name, ok = strings.CutPrefix(w.rest, "internal/")
	name, _, _ = strings.Cut(name, "/")
	return name, ok && w.service != "" && w.service != "devstack"
}

func adapter(path string) bool {
	name, ok := inner(path)
	_, listed := adapters()[name]
	return ok && listed
}

func domain(path string) bool {
	_, ok := inner(path)
	return ok && !adapter(path)
}

// reach finds a shortest way from a package to the outside.
func reach(g graph, from string) (way []string, what string) {
	bridge := bridges()
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, to := range g[at[len(at)-1]].Imports {
			if _, ok := bridge[strings.TrimPrefix(to, ours)]; ok || seen[to] || g[to].Standard {
				continue
			}
			seen[to] = true
			next := append(slices.Clone(at), to)
			for prefix, name := range outside() {
				if strings.HasPrefix(to, prefix) {
					for i := range next {
						next[i] = short(next[i])
					}
					return next[1:], name
				}
			}
			queue = append(queue, next)
		}
	}
	return nil, ""
}

func short(path string) string { return strings.TrimPrefix(path, ours) }

func TestTheTreeKeepsToItsDirection(t *testing.T) {
	g := load(t)
	report(t, breaches(g))
	for name, reason := range adapters() {
		used := false
		for path := range g {
			used = used || adapter(path) && strings.HasSuffix(path, "/internal/"+name)
		}
		if !used {
			t.Errorf("no service has the adapter %s (%s): take it off the list", name, reason)
		}
	}
	for name := range bridges() {
		if _, ok := g[ours+name]; !ok {
			t.Errorf("%s is gone: take it off the list", name)
		}
	}
}

// TestAnEdgeAgainstTheDirectionIsReported is the control of the test above.
func TestAnEdgeAgainstTheDirectionIsReported(t *testing.T) {
	for name, tt := range map[string]struct {
		from, to string
		test     bool
		want     string // part of the reason; empty where the edge is fine
	}{
		"proto to the library":             {"proto/access", "pkg/errs", false, "contracts import nothing"},
		"proto to itself":                  {"proto/access", "proto/gen/purser/auth/v1", false, ""},
		"proto's test to the library":      {"proto/access", "pkg/errs", true, "contracts import nothing"},
		"the library to the contracts":     {"pkg/grpcserver", "proto/access", false, "knows no contract"},
		"the library to a service":         {"pkg/jobs", "services/auth/app", false, "knows no contract"},
		"the library's test to a service":  {"pkg/jobs", "services/auth/app", true, "knows no contract"},
		"the client to the contracts":      {"proto/client", "proto/access", false, ""},
		"the client to the library":        {"proto/client", "pkg/grpcclient", false, ""},
		"the client to a service":          {"proto/client", "services/auth/app", false, "contracts alone"},
		"the client's example to it":       {"proto/client/example", "proto/client", false, ""},
		"the contracts to the client":      {"proto/access", "proto/client", false, "contracts import nothing"},
		"the library's test to the client": {"pkg/grpcclient", "proto/client", true, "knows no contract"},
		"a service to the client": {"services/wallet/app", "proto/client", false,
			"for other teams' programs"},
		"devstack to the client": {"services/devstack/demo", "proto/client", false, ""},
		"a service to another":   {"services/wallet/app", "services/auth/app", false, "over gRPC only"},
		"a service's test to another": {"services/wallet/internal/wallet", "services/auth/internal/account",
			true, "over gRPC only"},
		"a service to what they share": {"services/auth/internal/siwe", "services/internal/ethsig", false, ""},
		"what they share to a service": {"services/internal/ethsig", "services/auth/app", false,
			"knows none of them"},
		"what they share to devstack": {"services/internal/ethsig", "services/devstack/chain", true,
			"knows none of them"},
		"what they share to a library":   {"services/internal/ethsig", "pkg/errs", false, ""},
		"what they share to each other":  {"services/internal/chassis", "services/internal/ethsig", false, ""},
		"the library to what they share": {"pkg/jobs", "services/internal/ethsig", false, "knows no contract"},
		"a service to devstack": {"services/wallet/app", "services/devstack/chain", false,
			"over gRPC only"},
		"devstack to an app": {"services/devstack/suite", "services/wallet/app", false, ""},
		"devstack past an app": {"services/devstack/suite", "services/wallet/migrations", false,
			"services/wallet/app"},
		"the deployment to a service":     {"k8s", "services/wallet/app", true, "the programs"},
		"the deployment to the contracts": {"k8s", "proto/gen/purser/auth/v1", true, ""},
		"the domain to its store": {"services/wallet/internal/wallet", "services/wallet/internal/store",
			false, "rpc → domain ← store"},
		"the store to the domain": {"services/wallet/internal/store", "services/wallet/internal/wallet",
			false, ""},
		"the domain to gRPC": {"services/wallet/internal/wallet", "=google.golang.org/grpc/status",
			false, "reaches no gRPC"},
		"the domain to gorm": {"services/wallet/internal/wallet", "=gorm.io/gorm", false,
			"reaches no gorm"},
		"the domain to Redis": {"services/wallet/internal/wallet", "=github.com/redis/go-redis/v9",
			false, "reaches no Redis"},
		"the domain to generated code": {"services/wallet/internal/wallet", "proto/gen/purser/wallet/v1", false,
			"reaches no generated code"},
		"a new domain package to gorm": {"services/auth/internal/passkey", "=gorm.io/gorm", false,
			"reaches no gorm"},
		"the domain through the library": {"services/wallet/internal/wallet", "pkg/postgres", false,
			"pkg/postgres → gorm.io/gorm"},
		"the domain by the bridge": {"services/wallet/internal/price", "pkg/cache", false, ""},
		"an adapter to gorm":       {"services/wallet/internal/store", "=gorm.io/gorm", false, ""},
		"app to all of it":         {"services/wallet/app", "services/wallet/internal/store", false, ""},
		"a service to the test kit": {"services/wallet/app", "pkg/testkit", false,
			"no part of a deployed binary"},
		"a service to a part of it": {"services/wallet/app", "pkg/testkit/pgserver", false,
			"no part of a deployed binary"},
		"a service to the mail server for tests": {"services/auth/app", "services/internal/mailserver", false,
			"no part of a deployed binary"},
		"a service to the test kit of services": {"services/wallet/app", "services/internal/servicetest", false,
			"no part of a deployed binary"},
		"a test to the test kit of services": {"services/wallet/app", "services/internal/servicetest", true,
			""},
		"the test kit of services to the library's": {"services/internal/servicetest", "pkg/testkit", false, ""},
		"a test to the mail server":                 {"services/auth/app", "services/internal/mailserver", true, ""},
		"devstack to the mail server": {"services/devstack/suite", "services/internal/mailserver", false,
			""},
		"a service to what services share": {"services/wallet/app", "services/internal/chassis", false, ""},
		"the library to the test kit": {"pkg/postgres", "pkg/testkit", false,
			"no part of a deployed binary"},
		"a test to the test kit":            {"pkg/postgres", "pkg/testkit", true, ""},
		"devstack to a part of it":          {"services/devstack/suite", "pkg/testkit/pgserver", false, ""},
		"the test kit to its parts":         {"pkg/testkit", "pkg/testkit/pgserver", false, ""},
		"a package that begins like it too": {"services/wallet/app", "pkg/testkitchen", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			to, foreign := strings.CutPrefix(tt.to, "=")
			if !foreign {
				to = ours + to
			}
			from := pkg{ImportPath: ours + tt.from, Imports: []string{"fmt"}}
			if tt.test {
				from.XTestImports = []string{to}
			} else {
				from.Imports = append(from.Imports, to)
			}
			g := graph{
				"fmt": {ImportPath: "fmt", Standard: true}, from.ImportPath: from,
				ours + "pkg/postgres": {ImportPath: ours + "pkg/postgres", Imports: []string{"gorm.io/gorm"}},
				ours + "pkg/cache": {ImportPath: ours + "pkg/cache",
					Imports: []string{"github.com/redis/go-redis/v9"}},
			}
			g[from.ImportPath] = from
			got := breaches(g)
			if tt.want == "" && len(got) > 0 ||
				tt.want != "" && (len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), tt.want)) {
				t.Errorf("reported %q, want %q", got, tt.want)
			}
			for _, b := range got {
				if !strings.HasPrefix(b, tt.from+" imports ") {
					t.Errorf("%q does not name who imports", b)
				}
			}
		})
	}
}
