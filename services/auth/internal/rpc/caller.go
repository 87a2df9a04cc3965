package rpc

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// provenFor is how long after a sign-in was proven it counts as recent.
const provenFor = 10 * time.Minute

// maxDevice bounds the bytes of a user agent that are kept.
const maxDevice = 200

// WithClient returns ctx with where its call came from.
func WithClient(ctx context.Context) context.Context {
	var device string
	if agents := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agents) > 0 {
		device = agents[0]
	}
	device = strings.ToValidUTF8(device[:min(len(device), maxDevice)], "")
	return audit.WithClient(ctx, audit.Client{Device: strings.ReplaceAll(device, "\x00", ""), Address: grpcserver.PeerAddress(ctx)})
}

// person is the caller, unless they signed in with an API key, which is not for
// the account itself.
func person(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	if slices.Contains(caller.Methods, apikey.Method) {
		return caller, errs.PermissionDenied("API_KEY_CALLER", "an API key can't do this; sign in")
	}
	return caller, nil
}

// recently is a person who proved to be themselves within provenFor, as what
// could lock them out asks for: a token that was stolen is not enough.
func recently(ctx context.Context) (authn.Caller, error) {
	caller, err := person(ctx)
	if err == nil && time.Since(caller.AuthTime) > provenFor {
		err = errs.PermissionDenied("REAUTHENTICATION_REQUIRED", "sign in again, or call Reauthenticate, first")
	}
	return caller, err
}
