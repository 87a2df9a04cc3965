package faultproxy_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *faultproxy.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// say sends text and returns what comes back within the limit.
func say(t *testing.T, c net.Conn, text string, limit time.Duration) (string, error) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(limit))
	b := make([]byte, len(text))
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

const patience = 30 * time.Second

func TestWithoutAFaultBytesPassAndTheEndIsPassedOn(t *testing.T) {
	p := testkit.Proxy(t, echo(t))
	c := dial(t, p)
	text := strings.Repeat("0123456789", 100_000)
	go func() { _, _ = io.WriteString(c, text); _ = c.(*net.TCPConn).CloseWrite() }()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != text {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestLatencyDelaysEachDirectionByItself(t *testing.T) {
	p := testkit.Proxy(t, echo(t))
	c := dial(t, p)
	p.ToServer(faultproxy.Fault{Latency: 60 * time.Millisecond})
	p.ToClient(faultproxy.Fault{Latency: 40 * time.Millisecond})
	begin := time.Now()
	if got, err := say(t, c, "hello", patience); err != nil || got != "hello" {
		t.Fatal(got, err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Fatalf("took %s", took)
	}
}

func TestABlackholeSwallowsAndHealingResetsWhatItMadeAHoleIn(t *testing.T) {
	p := testkit.Proxy(t, echo(t))
	c := dial(t, p)
	p.ToClient(faultproxy.Fault{Blackhole: true})
	if got, err := say(t, c, "hello", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) || got != "" {
		t.Fatal(got, err)
	}
	p.Heal()
	if _, err := say(t, c, "again", patience); err == nil {
		t.Fatal("a stream with a hole goes on")
	}
	if got, err := say(t, dial(t, p), "again", patience); err != nil || got != "again" {
		t.Fatal(got, err)
	}
}

func TestACutEndsTheConnectionInTheMiddleOfAReply(t *testing.T) {
	p := testkit.Proxy(t, echo(t))
	c := dial(t, p)
	p.ToClient(faultproxy.Fault{CutAfter: 7})
	if got, err := say(t, c, "hello", patience); err != nil || got != "hello" {
		t.Fatal(got, err)
	}
	if got, err := say(t, c, "world", patience); got != "wo" || err == nil {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAResetIsSeenAsOne(t *testing.T) {
	p := testkit.Proxy(t, echo(t))
	c := dial(t, p)
	p.ToClient(faultproxy.Fault{Reset: true})
	if _, err := say(t, c, "hello", patience); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
}
