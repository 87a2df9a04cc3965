package grpcserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

const (
	// maxReplyReserve bounds what is kept of a call's time for its answer to
	// travel in, so that an error about a slow dependency arrives before the
	// caller gives up. It is a tenth of the time that the call has left.
	maxReplyReserve = 20 * time.Millisecond
	// maxIdentities bounds the rate limiter's memory: how many callers it counts
	// at a time.
	maxIdentities = 100_000
)

// errorReason is the attribute of a server's span with the reason of the
// answered error, such as DATABASE_UNAVAILABLE.
const errorReason attribute.Key = "purser.error.reason"

// logLayer logs one line for each call, with its final code. gRPC's own services
// are logged only when they fail.
func logLayer(log *slog.Logger) func(context.Context, *call) error {
	failures := newErrorCounter()
	return func(ctx context.Context, c *call) error {
		begun := time.Now()
		err := c.next(ctx)
		code := status.Code(err)
		failures.count(ctx, c, code)
		if code == codes.OK && isInfrastructure(c.method) {
			return nil
		}
		level := slog.LevelInfo
		if code == codes.Internal || code == codes.Unknown || code == codes.DataLoss {
			level = slog.LevelError
		}
		if !log.Enabled(ctx, level) {
			return err
		}
		attrs := make([]slog.Attr, 0, 5)
		attrs = append(attrs, slog.String("method", c.method), slog.String("code", code.String()),
			slog.Duration("took", time.Since(begun)))
		if c.caller != "" {
			attrs = append(attrs, slog.String("caller", c.caller))
		}
		if err != nil {
			attrs = append(attrs, slog.String("message", status.Convert(err).Message()))
		}
		log.LogAttrs(ctx, level, "call", attrs...)
		return err
	}
}

// recoverLayer answers a panic with INTERNAL and logs it with its stack.
func recoverLayer(log *slog.Logger) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) (err error) {
		defer func() {
			if p := recover(); p != nil {
				log.ErrorContext(ctx, "panic", "method", c.method, "panic", fmt.Sprint(p), "stack",
					string(debug.Stack()))
				err = grpcerr.ToStatus(errs.Internal(fmt.Errorf("panic: %v", p))).Err()
			}
		}()
		return c.next(ctx)
	}
}

// errsLayer converts the errors of the layers inside of it into statuses, and
// logs those of this service (INTERNAL) and of its dependencies (UNAVAILABLE)
// with their causes.
func errsLayer(log *slog.Logger, translate func(error) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		err := c.next(ctx)
		if err == nil {
			return nil
		}
		if translate != nil && errs.As(err) == nil {
			err = translate(err)
		}
		s := grpcerr.ToStatus(err)
		// The span's own status has the code and the text only.
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			if e := errs.As(grpcerr.FromError(s.Err())); e != nil {
				span.SetAttributes(errorReason.String(e.Reason))
			}
		}
		switch s.Code() {
		case codes.Internal:
			log.ErrorContext(ctx, "call failed", "method", c.method, "error", err.Error())
		case codes.Unavailable:
			if e := errs.As(err); e != nil && e.Reason == shuttingDown {
				break // nothing is away: the line of the call says that it ended so
			}
			log.WarnContext(ctx, "dependency unavailable", "method", c.method, "error", err.Error())
		}
		return s.Err()
	}
}

// startLayer refuses calls until the service is ready; gRPC's own services answer.
func startLayer(starting func() error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if starting != nil && !isInfrastructure(c.method) {
			if err := starting(); err != nil {
				return grpcerr.ToStatus(err).Err()
			}
		}
		return c.next(ctx)
	}
}

// deadlineLayer refuses a unary call with less than minTimeout left, and ends
// the others after maxTimeout at the latest, and before their own deadline. A
// stream has no deadline but its caller's.
func deadlineLayer(minTimeout, maxTimeout time.Duration) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if c.streaming {
			return c.next(ctx)
		}
		timeout := maxTimeout
		left, limited := deadline.Remaining(ctx)
		if limited && left < minTimeout {
			return errs.Deadline("DEADLINE_TOO_SHORT", fmt.Sprintf("the call has %s left and needs at least %s",
				left.Round(time.Microsecond), minTimeout))
		}
		if limited && left < maxTimeout {
			timeout = left - replyReserve(left)
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return c.next(ctx)
	}
}

// replyReserve is what is kept of the time that a call has left.
func replyReserve(left time.Duration) time.Duration { return min(maxReplyReserve, left/10) }

// authnLayer verifies the bearer token of calls of methods that aren't public.
func authnLayer(v Verifier) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if c.public() {
			return c.next(ctx)
		}
		token, err := bearer(ctx)
		if err != nil {
			return err
		}
		caller, err := v.Verify(ctx, token)
		if err != nil {
			return err
		}
		c.caller = caller.UserID.String()
		ctx = authn.WithCaller(ctx, caller)
		if c.streaming {
			return whileAccepted(ctx, v, token, c.next)
		}
		return c.next(ctx)
	}
}

// bearer returns the token of the authorization header; "" when there is none.
func bearer(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", errs.Unauthenticated("TOKEN_INVALID",
			fmt.Sprintf("there must be one authorization header, got %d", len(values)))
	}
	const form = "the authorization header must be: Bearer <access token>"
	scheme, token, ok := strings.Cut(values[0], " ")
	isBearer := strings.EqualFold(scheme, "bearer")
	switch {
	case ok && isBearer:
		return strings.TrimSpace(token), nil
	case isBearer, scheme == "":
		return "", errs.Unauthenticated("TOKEN_INVALID", form+"; got no token")
	case !ok:
		return "", errs.Unauthenticated("TOKEN_INVALID", form+"; got one word, without Bearer and a space before it")
	case len(scheme) <= maxScheme && strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz-") == "":
		return "", errs.Unauthenticated("TOKEN_INVALID", form+"; got the scheme "+scheme)
	}
	return "", errs.Unauthenticated("TOKEN_INVALID", form+"; got another scheme")
}

// maxScheme is the longest name of a scheme that an error repeats; a longer word may
// be a part of a secret.
const maxScheme = 12

// rateLayer limits the calls of one identity on this replica, with a token
// bucket: burst at once, perSecond on average.
func rateLayer(perSecond float64, burst int) func(context.Context, *call) error {
	buckets, err := lru.New[string, *rate.Limiter](maxIdentities)
	if err != nil { // only for a size below 1
		panic(err)
	}
	return func(ctx context.Context, c *call) error {
		if isInfrastructure(c.method) {
			return c.next(ctx)
		}
		id := c.caller
		if id == "" {
			id = PeerAddress(ctx)
		}
		bucket, known := buckets.Get(id)
		if !known {
			bucket = rate.NewLimiter(rate.Limit(perSecond), burst)
			if first, taken, _ := buckets.PeekOrAdd(id, bucket); taken { // by a call at the same time
				bucket = first
			}
		}
		if !bucket.Allow() {
			wait := time.Duration(float64(time.Second) / perSecond)
			return errs.Exhausted("RATE_LIMITED", fmt.Sprintf("too many calls: at most %g a second on average, %d at "+
				"once; wait for the time in RetryInfo", perSecond, burst)).After(max(wait, 100*time.Millisecond))
		}
		return c.next(ctx)
	}
}

// PeerAddress returns the AddressBlock of the address that a call came from. For
// a peer without an IP address it is its name, or "unknown".
func PeerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "unknown"
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	return AddressBlock(ip)
}

// AddressBlock returns the text by which calls from an address are counted: an
// IPv4 address, or the /64 prefix of an IPv6 one, since one host usually has a
// whole /64.
func AddressBlock(ip netip.Addr) string {
	ip = ip.Unmap()
	if ip.Is6() {
		if block, err := ip.WithZone("").Prefix(64); err == nil {
			return block.String()
		}
	}
	return ip.String()
}

// validateLayer checks messages against the rules in the contract
// (buf.validate) and the service's own, with errs.Invalid that names each field and
// rule.
func validateLayer(v *checks) func(context.Context, *call) error {
	check := func(msg any) error {
		m, ok := msg.(proto.Message)
		if !ok {
			return errs.Internal(fmt.Errorf("%T is no protobuf message", msg))
		}
		return v.check(m)
	}
	return func(ctx context.Context, c *call) error {
		c.check = check
		return c.next(ctx)
	}
}
