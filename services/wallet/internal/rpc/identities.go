package rpc

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/ownership"
)

// authTimeout is how long auth has to answer; the caller has a signature as the other way.
const authTimeout = time.Second

// eip155 is the provider of identities that are wallets.
const eip155 = "eip155"

// LinkedIdentities asks auth, with the call's own token, so that auth decides whose
// identities they are. It is nil when conn is.
func LinkedIdentities(conn *grpc.ClientConn, log *slog.Logger) ownership.Linked {
	if conn == nil {
		return nil
	}
	auth := authv1.NewIdentityServiceClient(conn)
	return func(ctx context.Context, a caip.Account) bool {
		ctx, cancel := context.WithTimeout(ctx, authTimeout)
		defer cancel()
		resp, err := auth.ListIdentities(ctx, &authv1.ListIdentitiesRequest{})
		if err != nil {
			if !errs.Is(err, errs.KindPermissionDenied) { // as for a call with an API key
				log.WarnContext(ctx, "auth doesn't tell the caller's identities; a wallet is proven by a signature",
					"error", err)
			}
			return false
		}
		for _, identity := range resp.GetIdentities() {
			if identity.GetProvider() == eip155 && isSubject(identity.GetSubject(), a) {
				return true
			}
		}
		return false
	}
}

// isSubject returns whether a subject of auth is the account. A key is the same account
// on every chain; a contract is one of its own on each (<chain id>:<address>).
func isSubject(subject string, a caip.Account) bool {
	chain, address, ofContract := strings.Cut(subject, ":")
	if !ofContract {
		return strings.EqualFold(subject, a.Address.Hex())
	}
	return chain == strconv.FormatUint(a.Chain, 10) && strings.EqualFold(address, a.Address.Hex())
}
