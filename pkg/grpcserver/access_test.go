package grpcserver_test

import (
	"log/slog"
	"slices"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
)

func TestAMethodIsCalledOnlyByWhomItsRuleAllows(t *testing.T) {
	r := start(t, plaintext(), echo{})
	for name, tt := range map[string]struct {
		method string
		auth   []string
		want   string
	}{
		"anybody calls a public method":             {open, nil, ""},
		"with a token nobody looks at":              {open, []string{"Bearer nobody"}, ""},
		"any caller with a token":                   {mine, []string{"Bearer plain-secret"}, ""},
		"the scheme in any case":                    {mine, []string{"bEARER plain-secret"}, ""},
		"who has the permission":                    {read, []string{"Bearer reader-secret"}, ""},
		"not without a token":                       {mine, nil, "TOKEN_MISSING"},
		"not without a token where a permission is": {read, nil, "TOKEN_MISSING"},
		"not with an empty token":                   {mine, []string{"Bearer "}, "TOKEN_MISSING"},
		"not with another scheme":                   {mine, []string{"Basic plain-secret"}, "TOKEN_INVALID"},
		"not with a bare token":                     {mine, []string{"plain-secret"}, "TOKEN_INVALID"},
		"not with an empty header":                  {mine, []string{""}, "TOKEN_INVALID"},
		"not with two headers": {mine, []string{"Bearer plain-secret", "Bearer plain-secret"},
			"TOKEN_INVALID"},
		"not with two tokens in one": {mine, []string{"Bearer plain-secret, Bearer plain-secret"},
			"TOKEN_INVALID"},
		"not with an unknown token":                     {mine, []string{"Bearer nobody"}, "TOKEN_INVALID"},
		"not without the permission":                    {read, []string{"Bearer plain-secret"}, "PERMISSION_MISSING"},
		"not where a permission is, by the scheme only": {read, []string{"Bearer"}, "TOKEN_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			_, e := r.call(as(t, tt.auth...), tt.method, newNote("x"))
			if reason(e) != tt.want {
				t.Errorf("%v, want %q", e, tt.want)
			}
			if tt.want != "" && tt.want != "PERMISSION_MISSING" && e.Kind != errs.KindUnauthenticated {
				t.Errorf("kind %s", e.Kind)
			}
		})
	}
}

// TestAMethodWithoutAUsableRuleIsClosed needs no Check: it holds though
// somebody serves without it.
func TestAMethodWithoutAUsableRuleIsClosed(t *testing.T) {
	for name, tt := range map[string]struct {
		rule grpcserver.Rule
		ok   bool
	}{"none": {}, "an empty one": {ok: true}} {
		t.Run(name, func(t *testing.T) {
			d := grpcserver.Deps{
				Rules:    func(string) (grpcserver.Rule, bool) { return tt.rule, tt.ok },
				Verifier: known(), Log: slog.New(slog.DiscardHandler),
			}
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer reader-secret"))
			entered, err := grpcserver.Trace(ctx, plaintext(), d, "/test.v1.Echo/Forgotten")
			if err == nil || slices.Contains(entered, "handler") || slices.Contains(entered, "ratelimit") {
				t.Errorf("entered %v, %v", entered, err)
			}
		})
	}
}
