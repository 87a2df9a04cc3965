package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

// purse is a source that says what it was told to forget.
type purse struct{ forgot []string }

func (*purse) Token(context.Context) (string, error) { return "t", nil }

func (w *purse) Forget(token string) { w.forgot = append(w.forgot, token) }

// ending is a stream that ends with an error.
type ending struct {
	grpc.ClientStream
	err error
}

func (e ending) RecvMsg(any) error { return e.err }

func TestTheTokenOfARefusedStreamIsForgotten(t *testing.T) {
	revoked := grpcerr.ToStatus(errs.Unauthenticated("TOKEN_REVOKED", "revoked")).Err()
	for name, tt := range map[string]struct {
		method string
		open   error
		ends   error
		forgot []string
	}{
		"when it is opened":          {method: "/s/M", open: revoked, forgot: []string{"t"}},
		"later":                      {method: "/s/M", ends: revoked, forgot: []string{"t"}},
		"not one that ends well":     {method: "/s/M", ends: io.EOF},
		"nor for what else is wrong": {method: "/s/M", ends: grpcerr.ToStatus(errs.Unavailable("AWAY", "away")).Err()},
		"nor where there was none":   {method: "/purser.auth.v1.SessionService/Login", ends: revoked},
	} {
		t.Run(name, func(t *testing.T) {
			w := &purse{}
			s := &signer{tokens: w}
			stream, err := s.stream(t.Context(), nil, nil, tt.method,
				func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string,
					...grpc.CallOption) (grpc.ClientStream, error) {
					return ending{err: tt.ends}, tt.open
				})
			if err == nil {
				err = stream.RecvMsg(nil)
			}
			if !slices.Equal(w.forgot, tt.forgot) || !errors.Is(err, cmp.Or(tt.open, tt.ends)) {
				t.Errorf("forgot %v, %v", w.forgot, err)
			}
		})
	}
}
