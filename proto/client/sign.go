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

// source gives access tokens; it is safe for concurrent use.
type source interface {
	// Token returns one that is good now, as far as is known.
	Token(ctx context.Context) (string, error)
	// Forget is told of one that was refused.
	Forget(token string)
}

// signer puts a token on each call that needs one and has none.
type signer struct{ tokens source }

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

// signedStream tells of a token that its stream is refused for. Every stream
// ends with the error of a RecvMsg, which is where that is said.
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

func (s *signer) forget(token string, err error) {
	if ended(err) {
		s.tokens.Forget(token)
	}
}

// sign returns the context to call with, and the token that was put into it.
// Public methods get none: the tokens themselves are fetched by those.
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

// ended reports whether a call was refused for its token, rather than for a
// password or a code in the request.
func ended(err error) bool {
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

// fetched is tokens that auth is asked for.
type fetched struct{ *authn.ServiceTokens }

// Token returns a token, or what auth said against it: that the issuer gives
// none is the answer only while it can't be asked.
func (f fetched) Token(ctx context.Context) (string, error) {
	token, err := f.ServiceTokens.Token(ctx)
	if e := errs.As(err); e != nil {
		if cause := errs.As(errors.Unwrap(e)); cause != nil && said(cause) {
			return "", cause
		}
	}
	return token, err
}

// said reports whether an error is auth's judgement of who asks.
func said(e *errs.Error) bool {
	switch e.Kind {
	case errs.KindUnauthenticated, errs.KindPermissionDenied, errs.KindInvalid, errs.KindFailedPrecondition,
		errs.KindExhausted:
		return true
	default:
		return false
	}
}

// static is a token that somebody else keeps good.
type static string

func (s static) Token(context.Context) (string, error) { return string(s), nil }

func (static) Forget(string) {}
