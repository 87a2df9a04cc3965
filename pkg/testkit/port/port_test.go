package port

import (
	"net"
	"os/exec"
	"strconv"
	"testing"
)

func TestUsedIsWhetherSomethingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := l.Addr().(*net.TCPAddr).Port
	if !Used(t.Context(), p) {
		t.Error("a port with a listener is not used")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if Used(t.Context(), p) {
		t.Error("a port without a listener is used")
	}
	if p, err := Free(t.Context()); err != nil || Used(t.Context(), p) {
		t.Error("a free port is used:", p, err)
	}
}

// A port that is asked for again and again stays free, whatever is started beside it. The control asks by listening.
func TestAskingForAPortDoesNotTakeIt(t *testing.T) {
	p, err := Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		go func() {
			for t.Context().Err() == nil {
				_ = exec.CommandContext(t.Context(), "true").Run() // ends with the test
			}
		}()
	}
	listening := func() bool {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		return err == nil && l.Close() == nil
	}
	const asked = 2000
	for range asked {
		if Used(t.Context(), p) {
			t.Fatal("a port that nothing listens on is used")
		}
	}
	for range 100 * asked {
		if !listening() {
			return
		}
	}
	t.Error("the control, which listens, never found the port in use")
}
