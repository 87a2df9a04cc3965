package k8s_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// peer is one end of a connection: a pod, by its labels and those of its namespace
// (nil for the overlay's own), or an IP address outside of the cluster.
type peer struct {
	pod, namespace map[string]string
	ip             netip.Addr
}

func (w workload) peer() peer { return peer{pod: w.pod.Labels} }

// target is a port that a peer listens on.
type target struct {
	peer
	protocol corev1.Protocol
	port     int32
}

// allows reports whether the network policies allow a connection: out of the one
// pod and into the other. A pod that no policy selects is unrestricted.
func allows(r rendering, from peer, to target) bool {
	egressAllowed, egressLimited, ingressAllowed, ingressLimited := false, false, false, false
	for _, p := range all[*networkingv1.NetworkPolicy](r) {
		if from.local() && matches(&p.Spec.PodSelector, from.pod) &&
			slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			egressLimited = true
			for _, rule := range p.Spec.Egress {
				egressAllowed = egressAllowed || allowsPeer(rule.To, to.peer) && allowsPort(rule.Ports, to)
			}
		}
		if to.local() && matches(&p.Spec.PodSelector, to.pod) &&
			slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			ingressLimited = true
			for _, rule := range p.Spec.Ingress {
				ingressAllowed = ingressAllowed || allowsPeer(rule.From, from) && allowsPort(rule.Ports, to)
			}
		}
	}
	return (egressAllowed || !egressLimited) && (ingressAllowed || !ingressLimited)
}

// local reports whether p is a pod of the overlay's namespace.
func (p peer) local() bool { return p.pod != nil && p.namespace == nil }

func allowsPeer(rule []networkingv1.NetworkPolicyPeer, p peer) bool {
	return len(rule) == 0 || slices.ContainsFunc(rule, func(x networkingv1.NetworkPolicyPeer) bool {
		if x.IPBlock != nil {
			in := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(p.ip) }
			return p.ip.IsValid() && in(x.IPBlock.CIDR) && !slices.ContainsFunc(x.IPBlock.Except, in)
		}
		if p.pod == nil || (x.NamespaceSelector == nil) != (p.namespace == nil) {
			return false
		}
		return (x.NamespaceSelector == nil || matches(x.NamespaceSelector, p.namespace)) &&
			(x.PodSelector == nil || matches(x.PodSelector, p.pod))
	})
}

func allowsPort(ports []networkingv1.NetworkPolicyPort, to target) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(x networkingv1.NetworkPolicyPort) bool {
		return x.Protocol != nil && *x.Protocol == to.protocol && x.Port != nil && x.Port.IntVal == to.port
	})
}

// configuredTargets returns what a server connects to according to its
// environment, by variable.
func configuredTargets(t *testing.T, r rendering, known secrets, w workload) map[string]target {
	t.Helper()
	c := w.containers()[0]
	env := environment(r, c, mount(t, r, known, w, c))
	for name, file := range env {
		if variable, is := strings.CutSuffix(name, "_FILE"); is && filepath.IsAbs(file) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env[variable] = string(b)
		}
	}
	if w.label("name") != "auth" && env["PURSER_JWKS_URL"] == "" {
		env["PURSER_JWKS_URL"] = env["PURSER_ISSUER"]
	}
	found := map[string]target{}
	for _, name := range []string{"PURSER_AUTH_ADDR", "PURSER_WALLET_ADDR", "PURSER_SMTP_ADDR"} {
		if addr, ok := env[name]; ok {
			found[name] = resolve(t, r, "tcp://"+addr)
		}
	}
	for _, name := range []string{"PURSER_DATABASE_URL", "PURSER_REDIS_URL", "PURSER_JWKS_URL", "PURSER_PRICE_URL"} {
		if u, ok := env[name]; ok {
			found[name] = resolve(t, r, u)
		}
	}
	for i, node := range strings.Split(env["PURSER_CHAIN_RPC_URLS"], ",") {
		if _, u, ok := strings.Cut(node, "="); ok {
			found[fmt.Sprint("PURSER_CHAIN_RPC_URLS ", i)] = resolve(t, r, u)
		}
	}
	if env["PURSER_WEBHOOKS_KEK"] != "" {
		found["PURSER_WEBHOOKS_KEK"] = resolve(t, r, "https://receiver.example") // webhooks go to any public address
	}
	return found
}

// resolve returns the pods behind a Service; any other name is taken for a host on
// the internet.
func resolve(t *testing.T, r rendering, address string) target {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port := map[string]int{"http": 80, "https": 443}[u.Scheme]
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if s, ok := named[*corev1.Service](r, u.Hostname()); ok {
		for _, p := range s.Spec.Ports {
			for _, w := range workloads(r) {
				if n, named := containerPort(w, p.TargetPort.StrVal); p.Port == int32(port) && named &&
					matches(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}, w.pod.Labels) {
					return target{w.peer(), corev1.ProtocolTCP, n}
				}
			}
		}
		t.Fatalf("the Service %s has no port %d", s.Name, port)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		ip = netip.MustParseAddr("203.0.113.1")
	}
	return target{peer{ip: ip}, corev1.ProtocolTCP, int32(port)}
}

// networkFindings returns the connections that an environment needs and the
// policies deny, and those between pods that no environment needs and the policies
// allow.
func networkFindings(t *testing.T, r rendering, known secrets) (found []string) {
	t.Helper()
	for _, from := range workloads(r) {
		asked := map[string]bool{}
		if slices.Contains(services(), from.label("name")) {
			for variable, to := range configuredTargets(t, r, known, from) {
				asked[fmt.Sprint(to.pod, to.port)] = true
				// A Job that migrates uses the database alone.
				if (from.label("component") == "server" || variable == "PURSER_DATABASE_URL") &&
					!allows(r, from.peer(), to) {
					found = append(found, fmt.Sprintf("%s can't reach what %s names", from.name, variable))
				}
			}
		}
		for _, to := range workloads(r) {
			for _, c := range to.containers() {
				for _, p := range c.Ports {
					if !asked[fmt.Sprint(to.pod.Labels, p.ContainerPort)] &&
						allows(r, from.peer(), target{to.peer(), corev1.ProtocolTCP, p.ContainerPort}) {
						found = append(found,
							fmt.Sprintf("%s can reach port %s of %s, and no variable of it names that port", from.name,
								p.Name,
								to.name))
					}
				}
			}
		}
	}
	return append(found, namespaceBoundaryFindings(r)...)
}

// namespaceBoundaryFindings returns what is wrong with the connections out of the
// namespace and into it.
func namespaceBoundaryFindings(r rendering) (found []string) {
	check := func(want bool, from peer, to target, what string) {
		if allows(r, from, to) != want {
			found = append(found, fmt.Sprintf("%s: want open to be %t", what, want))
		}
	}
	of := func(label string) peer {
		return peer{pod: map[string]string{"app": "x"}, namespace: map[string]string{label: "true"}}
	}
	dns := peer{pod: map[string]string{"k8s-app": "kube-dns"},
		namespace: map[string]string{"kubernetes.io/metadata.name": "kube-system"}}
	stranger := peer{pod: map[string]string{"app": "x"}}
	check(false, stranger, target{peer{ip: netip.MustParseAddr("203.0.113.1")}, corev1.ProtocolTCP, 443},
		"a pod without a policy to the internet")
	check(false, of("purser/client"), target{stranger, corev1.ProtocolTCP, 9000}, "a client to a pod without a policy")
	for _, w := range workloads(r) {
		check(true, w.peer(), target{dns, corev1.ProtocolUDP, 53}, w.name+" to DNS")
		check(false, w.peer(), target{dns, corev1.ProtocolTCP, 443}, w.name+" to another port in kube-system")
		for _, port := range []int32{80, 443} {
			for address, what := range map[string]string{"169.254.169.254": "the metadata of the cloud",
				"fd00:ec2::254": "the metadata of the cloud by IPv6", "10.0.0.1": "the API of the cluster",
				"100.64.0.1": "a shared network", "172.16.0.1": "a private network",
				"192.168.0.1": "a private network", "fe80::1": "its own link"} {
				check(false, w.peer(), target{peer{ip: netip.MustParseAddr(address)}, corev1.ProtocolTCP, port},
					w.name+" to "+what)
			}
		}
		check(false, w.peer(), target{peer{ip: netip.MustParseAddr("203.0.113.1")}, corev1.ProtocolTCP, 80},
			w.name+" to the internet without TLS")
		reaches := w.name == "Deployment wallet" || w.name == "Deployment portfolio"
		if reaches || w.label("component") != "server" {
			check(reaches, w.peer(),
				target{peer{ip: netip.MustParseAddr("2001:db8::1")}, corev1.ProtocolTCP, 443},
				w.name+" to the internet by IPv6")
		}
		for _, c := range w.containers() {
			for _, p := range c.Ports {
				into := target{w.peer(), corev1.ProtocolTCP, p.ContainerPort}
				serves := w.label("component") == "server"
				check(false, of("x"), into, "another namespace to "+p.Name+" of "+w.name)
				check(serves && p.Name == "metrics", of("purser/monitoring"), into,
					"monitoring to "+p.Name+" of "+w.name)
				check(serves && p.Name == "grpc", of("purser/client"), into, "a client to "+p.Name+" of "+w.name)
				check(p.Name == "http", of("purser/ingress"), into, "ingress to "+p.Name+" of "+w.name)
			}
		}
	}
	return found
}

func TestTheNetworkHasTheEdgesThatTheConfigurationNamesAndNoOthers(t *testing.T) {
	for _, overlay := range overlays() {
		r := render(t, overlay)
		report(t, overlay, networkFindings(t, r, mountableSecrets(t, overlay, r)))
	}
}

// TestAnEdgeTooManyOrTooFewIsReported is the control of the test above.
func TestAnEdgeTooManyOrTooFewIsReported(t *testing.T) {
	policy := func(name string, f func(*networkingv1.NetworkPolicy)) func(rendering) rendering {
		return func(r rendering) rendering {
			p, _ := named[*networkingv1.NetworkPolicy](r, name)
			f(p)
			return r
		}
	}
	without := func(name string) func(rendering) rendering {
		return func(r rendering) rendering {
			return slices.DeleteFunc(r, func(o object) bool {
				p, is := o.(*networkingv1.NetworkPolicy)
				return is && p.Name == name
			})
		}
	}
	for name, tt := range map[string]struct {
		mutate func(rendering) rendering
		want   string
	}{
		"nothing is denied": {func(r rendering) rendering {
			return slices.DeleteFunc(r, func(o object) bool { _, is := o.(*networkingv1.NetworkPolicy); return is })
		}, "Deployment wallet can reach port grpc of Deployment portfolio, and no variable"},
		"no default": {without("default-deny"), "a client to a pod without a policy"},
		"no names":   {without("dns"), "Deployment auth to DNS"},
		"no stores": {without("use-stores"),
			"Job auth-migrate can't reach what PURSER_DATABASE_URL names"},
		"nobody comes in": {without("wallet"),
			"Deployment portfolio can't reach what PURSER_WALLET_ADDR names"},
		"everybody comes in": {policy("wallet",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].From = nil }),
			"another namespace to grpc of Deployment wallet"},
		"every port is open": {policy("auth",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[1].Ports = nil }),
			"a client to admin of Deployment auth"},
		"auth is not reached": {policy("portfolio",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress = p.Spec.Egress[1:] }),
			"Deployment portfolio can't reach what PURSER_JWKS_URL names"},
		"the internet is inside": {policy("wallet-outside",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To[0].IPBlock.Except = nil }),
			"Deployment wallet to the metadata of the cloud"},
		"the internet of IPv6 is inside": {policy("wallet-outside",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To[1].IPBlock.Except = nil }),
			"Deployment wallet to the metadata of the cloud by IPv6"},
		"no internet of IPv6": {policy("wallet-outside",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To = p.Spec.Egress[0].To[:1] }),
			"Deployment wallet to the internet by IPv6"},
		"no webhooks": {without("portfolio-outside"),
			"Deployment portfolio can't reach what PURSER_WEBHOOKS_KEK names"},
		"webhooks go inside": {policy("portfolio-outside",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To[0].IPBlock.Except = nil }),
			"Deployment portfolio to a private network"},
		"webhooks without TLS": {policy("portfolio-outside",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].Ports = nil }),
			"Deployment portfolio to the internet without TLS"},
		"no internet": {policy("wallet-outside",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Egress = nil }),
			"Deployment wallet can't reach what PURSER_PRICE_URL names"},
		"monitoring is not let in": {without("monitoring"), "monitoring to metrics of Deployment auth"},
		"monitoring reaches profiles": {policy("monitoring",
			func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].Ports = nil }),
			"monitoring to admin of Deployment auth"},
	} {
		t.Run(name, func(t *testing.T) {
			r := render(t, "dev")
			known := renderedSecrets(r)
			r = tt.mutate(r)
			if got := strings.Join(networkFindings(t, r, known), "\n"); !strings.Contains(got, tt.want) {
				t.Errorf("reported %q, want %q", got, tt.want)
			}
		})
	}
}
