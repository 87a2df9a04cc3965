package grpcserver_test

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
)

// withHeader returns a context with a header of so many bytes.
func withHeader(ctx context.Context, size int) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-large", strings.Repeat("x", size))
}

func TestACallWithTooMuchMetadataIsToldSoAndHurtsNoOther(t *testing.T) {
	r := start(t, plaintext(), echo{})
	other := r.openStream(as(t, "Bearer reader-secret"), t)
	if e := exchange(other, newNote("ok")); e != nil {
		t.Fatal(e)
	}
	for _, size := range []int{grpcserver.MaxHeaders, 2 * grpcserver.MaxHeaders, 15 * grpcserver.MaxHeaders} {
		_, e := r.call(withHeader(as(t, "Bearer reader-secret"), size), read, newNote("ok"))
		if e == nil || e.Kind != errs.KindExhausted || e.Reason != "HEADERS_TOO_LARGE" ||
			!strings.Contains(e.Error(), "at most "+strconv.Itoa(grpcserver.MaxHeaders)) {
			t.Errorf("%d bytes: %v", size, e)
		}
		s := r.openStream(withHeader(as(t, "Bearer reader-secret"), size), t)
		if e := exchange(s, newNote("ok")); reason(e) != "HEADERS_TOO_LARGE" {
			t.Errorf("a stream with %d bytes: %v", size, e)
		}
	}
	if e := exchange(other, newNote("ok")); e != nil {
		t.Error("another call on the connection ended:", e)
	}
	if lines := r.log.lines(t, "call"); len(lines) != 6 || lines[0]["code"] != "ResourceExhausted" ||
		lines[0]["method"] != read {
		t.Error("logged:", lines)
	}
	below := withHeader(as(t, "Bearer reader-secret"), grpcserver.MaxHeaders-1024)
	if _, e := r.call(below, read, newNote("ok")); e != nil {
		t.Error("just below the limit:", e)
	}
	many := metadata.MD{}
	for range 2000 {
		many.Append("x", "1") // 68,000 bytes as HTTP/2 counts them
	}
	if _, e := r.call(metadata.NewOutgoingContext(t.Context(), many), open, newNote("ok")); reason(e) !=
		"HEADERS_TOO_LARGE" {
		t.Error("many small ones:", e)
	}
}

// What no server of grpc-go can answer with a status: a client that sends more than the connection's limit although it
// knows that limit. docs/limits.md says so; this test notices when it becomes different.
func TestWhatIsAboveTheConnectionsLimitIsResetOrClosed(t *testing.T) {
	for name, tc := range map[string]struct {
		values    int // of 1,000 bytes, which count as 1,035
		afterward string
	}{
		"a little above": {16*grpcserver.MaxHeaders/1035 + 1, "RST_STREAM"},
		"far above":      {20 * grpcserver.MaxHeaders / 1035, "GOAWAY or end"},
		"below":          {15 * grpcserver.MaxHeaders / 1035, "HEADERS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, plaintext(), echo{})
			if got := rawCall(t, r.addr, open, tc.values); got != tc.afterward {
				t.Errorf("answered by %s, want %s", got, tc.afterward)
			}
		})
	}
}

// rawCall sends a call's headers without a client's care and returns how the server answers.
func rawCall(t *testing.T, addr, method string, values int) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", addr},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for range values {
		_ = enc.WriteField(hpack.HeaderField{Name: "x-l", Value: strings.Repeat("~", 1000), Sensitive: true})
	}
	go func() { // the server may stop reading
		_, _ = conn.Write([]byte(http2.ClientPreface))
		f := http2.NewFramer(conn, nil)
		_ = f.WriteSettings()
		const frame = 16 << 10
		first := block.Next(frame)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: block.Len() == 0})
		for block.Len() > 0 {
			next := block.Next(frame)
			if f.WriteContinuation(1, block.Len() == 0, next) != nil {
				return
			}
		}
	}()
	in := http2.NewFramer(nil, conn)
	for {
		frame, err := in.ReadFrame()
		if err != nil {
			return "GOAWAY or end"
		}
		switch frame.(type) {
		case *http2.RSTStreamFrame:
			return "RST_STREAM"
		case *http2.GoAwayFrame:
			return "GOAWAY or end"
		case *http2.HeadersFrame:
			return "HEADERS"
		}
	}
}
