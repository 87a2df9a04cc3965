package grpcserver_test

import (
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/testkit"
)

// What DNS stops to say does not end connections that work.
func TestConnectionsOutliveTheAnswersOfDNS(t *testing.T) {
	for name, fail := range map[string]func(*nameServer){
		"no addresses": func(s *nameServer) { s.ips = nil },
		"no such name": func(s *nameServer) { s.rcode = dnsmessage.RCodeNameError },
		"it fails":     func(s *nameServer) { s.rcode = dnsmessage.RCodeServerFailure },
		"it is mute":   func(s *nameServer) { s.mute = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, 2, lifecycle.Config{Drain: 5 * time.Second})
			c := d.caller(t, d.dialPurser(t))
			c.pass(t, 20)
			d.names.mu.Lock()
			fail(d.names)
			d.names.mu.Unlock()
			asked := d.names.asked.Load()
			testkit.Eventually(t, 60*time.Second, func() bool { return d.names.asked.Load() > asked+2 })
			c.pass(t, 50)
			added := d.start(t)
			d.names.mu.Lock()
			d.names.rcode, d.names.mute = dnsmessage.RCodeSuccess, false
			d.names.mu.Unlock()
			d.announce(added)
			testkit.Eventually(t, 60*time.Second, func() bool { return added.calls.Load() > 10 })
			if calls, failed, first := c.stop(); failed > 0 {
				t.Errorf("%d of %d calls failed, the first with: %v", failed, calls, first)
			}
		})
	}
}
