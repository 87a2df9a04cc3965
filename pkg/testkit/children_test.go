package testkit_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) {
	testkit.Children(map[string]func(context.Context, []string) error{
		"count": func(ctx context.Context, args []string) error {
			fmt.Println("args", strings.Join(args, " "))
			for i := 0; ; i++ {
				fmt.Println(i)
				<-time.After(time.Millisecond)
			}
		},
		"fail": func(context.Context, []string) error { return errors.New("as told") },
	})
	testkit.LeakFree(m)
}

func TestAChildIsAProcessThatCanBePausedAndKilled(t *testing.T) {
	c := testkit.Spawn(t, "count", "-a", "b")
	if got := c.Line(time.Minute); got != "args -a b" {
		t.Fatal(got)
	}
	c.Pause()
	if state := state(t, c.Pid()); state != "T" {
		t.Fatalf("a paused child is %q", state)
	}
	c.Resume()
	for range 20 {
		c.Line(time.Minute)
	}
	c.Kill()
	if err := syscall.Kill(c.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("a killed child is there: %v", err)
	}
	if c.Wait() == nil {
		t.Fatal("a killed child ended well")
	}
}

func TestAChildsErrorIsItsLastLine(t *testing.T) {
	c := testkit.Spawn(t, "fail")
	if got := c.Line(time.Minute); got != "as told" {
		t.Fatal(got)
	}
	if c.Wait() == nil {
		t.Fatal("ended well")
	}
}

func state(t *testing.T, pid int) string {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "State:\t"); ok {
			return v[:1]
		}
	}
	return ""
}

func TestAClusterServesEverySlotOverAllNodes(t *testing.T) {
	c := testkit.RedisCluster(t)
	client, err := redisx.New(redisx.Options{URL: c.URL(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range 300 {
		if err := client.Set(t.Context(), fmt.Sprint(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, node := range c.Nodes {
		one, err := redisx.New(redisx.Options{URL: node.URL(), Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := one.DBSize(t.Context()).Result(); err != nil || n < 50 {
			t.Errorf("node %d has %d keys, %v", i, n, err)
		}
		_ = one.Close()
	}
}
