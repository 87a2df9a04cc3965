package rpc

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
)

// ClientAddress is the metadata key with which a service account that holds role.ForwardClient states the client
// address of a call that it forwards: one IPv4 or IPv6 address.
const ClientAddress = "purser-client-address"

// maxUserAgent is the maximum length of a stored user agent, in bytes.
const maxUserAgent = 200

// Verifier checks access tokens; *authn.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, token string) (authn.Caller, error)
}

type addressKey struct{}

// WithClient returns a function that adds the client of a call to its context: the peer, or the one that a trusted
// service account states. On public methods, whose callers are not authenticated, v verifies that account's token. The
// context is that of a call from outside, see authority.Served.
func WithClient(v Verifier) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context {
		var userAgent string
		if agents := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agents) > 0 {
			userAgent = agents[0]
		}
		userAgent = strings.ToValidUTF8(userAgent[:min(len(userAgent), maxUserAgent)], "")
		userAgent = strings.ReplaceAll(userAgent, "\x00", "")
		client := audit.Client{UserAgent: userAgent, IPAddress: grpcserver.PeerAddress(ctx)}
		address := peerIP(ctx)
		if stated, ok := forwarded(ctx, v); ok {
			address, client.IPAddress = stated, grpcserver.AddressBlock(stated)
		}
		return authority.Served(audit.WithClient(context.WithValue(ctx, addressKey{}, address), client))
	}
}

// forwarded returns the client address that a trusted service account states. It ignores those of other callers and
// those that are no address.
func forwarded(ctx context.Context, v Verifier) (netip.Addr, bool) {
	values := metadata.ValueFromIncomingContext(ctx, ClientAddress)
	if len(values) != 1 {
		return netip.Addr{}, false
	}
	address, ok := parseAddress(values[0])
	if !ok {
		return netip.Addr{}, false
	}
	caller, ok := bearer(ctx, v)
	return address, ok && slices.Contains(caller.Methods, serviceaccount.Method) && caller.May(role.ForwardClient)
}

// bearer returns the caller of a call. On public methods, whose callers are not authenticated, v verifies their token;
// false without a valid one.
func bearer(ctx context.Context, v Verifier) (authn.Caller, bool) {
	caller := authn.CallerFrom(ctx)
	if !caller.Anonymous() {
		return caller, true
	}
	tokens := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(tokens) != 1 {
		return caller, false
	}
	scheme, token, _ := strings.Cut(tokens[0], " ")
	if !strings.EqualFold(scheme, "bearer") {
		return caller, false
	}
	caller, err := v.Verify(ctx, strings.TrimSpace(token))
	return caller, err == nil
}

// parseAddress reads one address of a single host, without port and zone.
func parseAddress(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	a = a.Unmap()
	return a, !a.IsUnspecified() && !a.IsMulticast()
}

// clientIP returns the address of the client, the zero one when it is unknown.
func clientIP(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	return a
}

// clientAddress returns the address by which attempts are counted: an IPv6 one by its /64.
func clientAddress(ctx context.Context) string { return audit.ClientFrom(ctx).IPAddress }

// peerIP returns the address of the connection's other end.
func peerIP(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
