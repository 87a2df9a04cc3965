package console

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

func TestASessionEndsBySigningOutByIdlenessAndWhenThereAreTooMany(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newSessions()
	s.now = func() time.Time { return now }
	first, second := &viewer{id: "first"}, &viewer{id: "second"}
	a, _ := s.add(first)
	b, _ := s.add(second)
	if a == b || len(a) < 40 {
		t.Errorf("the ids are %q and %q", a, b)
	}
	if s.get(a) != first || s.get(b) != second {
		t.Error("an id does not give its viewer")
	}
	for _, id := range []string{"", "guessed", a + "x", a[:len(a)-1]} {
		if got := s.get(id); got != nil {
			t.Errorf("%q gives %v", id, got)
		}
	}
	if s.remove(a) != first || s.get(a) != nil || s.remove(a) != nil {
		t.Error("a session stays after it was removed")
	}
	now = now.Add(sessionIdle - time.Minute)
	if s.get(b) == nil {
		t.Error("a session ended before its time")
	}
	now = now.Add(sessionIdle + time.Minute)
	if s.get(b) != nil {
		t.Error("an idle session goes on")
	}
	kept, ended := s.add(&viewer{id: "kept"})
	if len(ended) != 1 || ended[0] != second {
		t.Errorf("the next sign-in ends %v, want the idle one", ended)
	}
	for range 3 * maxSessions {
		now = now.Add(time.Second)
		if s.get(kept) == nil {
			t.Fatal("a session that is in use was ended for a newer one")
		}
		s.add(&viewer{})
	}
	if n := len(s.byID); n != maxSessions {
		t.Errorf("%d sessions are kept, want %d", n, maxSessions)
	}
	if n := len(s.removeAll()); n != maxSessions || len(s.byID) != 0 {
		t.Errorf("%d sessions were ended, and %d are left", n, len(s.byID))
	}
}

func TestAServiceIsUpOnlyIfItAnswersAndReachesAllItNeeds(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	loaded := func(of ...dependency) state {
		return state{}.next("wallet", serviceStatus{Dependencies: of}, nil, at)
	}
	jobs := state{}.next("wallet", []run{}, nil, at)
	reachable, unknown := dependency{Name: "redis", State: "reachable"}, dependency{Name: "redis", State: "unknown"}
	unreachable := dependency{Name: "postgres", State: "unreachable", Since: at, Reason: "TIMEOUT", Error: "no answer"}
	unavailable := errs.Unavailable("UNAVAILABLE", "unavailable")
	for name, tt := range map[string]struct {
		status, jobs state
		class, what  string
	}{
		"all reachable":           {loaded(reachable), jobs, "up", ""},
		"one unreachable":         {loaded(reachable, unreachable), jobs, "degraded", "postgres"},
		"not checked yet":         {loaded(unknown), jobs, "unknown", "redis"},
		"unreachable and unknown": {loaded(unknown, unreachable), jobs, "degraded", "redis"},
		"no answer": {loaded(reachable).next("wallet", nil, unavailable, at), jobs,
			"down", "wallet"},
		"no token for it": {loaded(reachable).next("wallet", nil, &dependencyError{service: "auth"}, at), jobs,
			"unknown", "auth"},
		"an error": {loaded(reachable).next("wallet", nil, errs.PermissionDenied("NO", "not permitted"), at), jobs,
			"degraded", "wallet"},
		"a call fails though all is reachable": {loaded(reachable), jobs.next("wallet", nil, unavailable, at),
			"degraded", "wallet"},
		"no call has worked yet": {loaded(reachable), state{}, "unknown", "wallet"},
		"an older one, which works": {state{}.next("wallet", nil, &errs.Error{Reason: "UNIMPLEMENTED"}, at), jobs,
			"up", ""},
	} {
		got := serviceStates(map[string][]state{"status": {tt.status}, "jobs": {tt.jobs}})[0]
		what := ""
		if len(got.Problems) > 0 {
			what = got.Problems[0].What
		}
		if got.Service != "wallet" || got.Class != tt.class || what != tt.what {
			t.Errorf("%s: %+v, want %s by %q", name, got, tt.class, tt.what)
		}
	}
}

func TestACommandTakesAnyTextAsOneWord(t *testing.T) {
	got := jsonArgument(map[string]string{"email": `o'hara"$(id)` + "`id`\n&<@example.com"})
	if want := `'{"email":"o'\''hara\"$(id)` + "`id`" + `\n&<@example.com"}'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
