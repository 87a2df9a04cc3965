package client

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/access"
)

// tokenSource returns access tokens. It is safe for concurrent use.
type tokenSource interface {
	// Token returns a token that is valid now, unless it was revoked.
	Token(ctx context.Context) (string, error)
	// Forget is called with a token that a service has refused.
	Forget(token string)
}

// signer adds a token to each call that needs one and has none.
type signer struct{ tokens tokenSource }

func (s *signer) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, token, err := s.sign(ctx, method)
	if err != nil {
		return err
	}
	err = invoke(ctx, method, req, reply, cc, opts...)
	if token != "" {
		s.forget(token, err)
	}
	return err
}

func (s *signer) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, token, err := s.sign(ctx, method)
	if err != nil {
		return nil, err
	}
	stream, err := open(ctx, desc, cc, method, opts...)
	if token == "" {
		return stream, err
	}
	if err != nil {
		s.forget(token, err)
		return nil, err
	}
	return &signedStream{ClientStream: stream, signer: s, token: token}, nil
}

// signedStream calls forget when its stream is refused. Every stream ends with the
// error of a RecvMsg, so the other methods don't need to.
type signedStream struct {
	grpc.ClientStream
	signer *signer
	token  string
}

func (s *signedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.signer.forget(s.token, err)
	return err
}

// forget drops a token if err says that the call was refused for it.
func (s *signer) forget(token string, err error) {
	if refusedForToken(err) {
		s.tokens.Forget(token)
	}
}

// sign returns the context for a call and the token that it has added. Calls of
// public methods, by which the tokens themselves are fetched, get none.
func (s *signer) sign(ctx context.Context, method string) (context.Context, string, error) {
	rule, _ := access.Lookup(method)
	if md, _ := metadata.FromOutgoingContext(ctx); rule.Public || len(md.Get("authorization")) > 0 {
		return ctx, "", nil
	}
	token, err := s.tokens.Token(ctx)
	if err != nil {
		return nil, "", err
	}
	return grpcclient.WithToken(ctx, token), token, nil
}

// refusedForToken reports whether a call was refused for its token, and not for a
// password or a code in the request.
func refusedForToken(err error) bool {
	e := errs.As(grpcerr.FromError(err))
	if e == nil || e.Kind != errs.KindUnauthenticated {
		return false
	}
	switch e.Reason {
	case "TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_REVOKED", "SESSION_REVOKED":
		return true
	}
	return false
}

// fetchedTokens are tokens that auth issues.
type fetchedTokens struct{ *authn.ServiceTokens }

// Token returns a token, or the error by which auth has refused to issue one.
// AUTH_UNAVAILABLE is returned only while auth doesn't answer.
func (f fetchedTokens) Token(ctx context.Context) (string, error) {
	token, err := f.ServiceTokens.Token(ctx)
	if e := errs.As(err); e != nil {
		if cause := errs.As(errors.Unwrap(e)); cause != nil && isAnswer(cause) {
			return "", cause
		}
	}
	return token, err
}

// isAnswer reports whether an error is a decision of auth about the caller, and not
// a failure to reach it.
func isAnswer(e *errs.Error) bool {
	switch e.Kind {
	case errs.KindUnauthenticated, errs.KindPermissionDenied, errs.KindInvalid, errs.KindFailedPrecondition,
		errs.KindExhausted:
		return true
	default:
		return false
	}
}

// static is a token that is not renewed here.
type static string

func (s static) Token(context.Context) (string, error) { return string(s), nil }

func (static) Forget(string) {}
