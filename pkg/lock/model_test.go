package lock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/explore"
)

// The model of the lock: a server that keeps a lease and the last fence,
// holders that see it only by requests which take time, a database that keeps
// the greatest fence it was shown, and a clock. A holder may be stopped between
// any two steps, which is the same as the others' steps coming in between, and
// may die. What is asked, executed and answered are three steps.
const (
	maxHolders = 6
	modelTTL   = 3
	modelEdge  = 1 // the margin
)

type phase uint8

const (
	idle phase = iota
	asked
	granted // by the server; the answer is on its way
	refused
	holding
	renewing
	renewed
	gone // the renewal found it gone; the answer is on its way
	releasing
	ended
)

type holder struct {
	phase   phase
	start   int8 // when the request was sent
	until   int8 // when it takes the lease for lost
	fence   int8
	looked  bool // it saw that it holds the lock and is about to write
	wrote   bool
	flushed bool // the server lost its data since the grant
}

type lockState struct {
	now       int8
	owner     int8 // of the lease; -1 for none
	expires   int8
	lastFence int8 // 0 after a flush
	micros    int8 // the server's clock, which every grant takes some of
	greatest  int8 // of all fences given
	committed int8 // the greatest fence that the database was shown
	flushes   int8
	wrong     [3]bool
	holders   [maxHolders]holder
}

// wrong's parts.
const (
	fenceFell = iota
	staleWrite
	twoLive
)

var (
	errTwoBelieve = errors.New("a holder goes on whose lease is gone")
	errFenceFell  = errors.New("a fence is not greater than an earlier one")
	errStale      = errors.New("a write came in after one of a greater fence")
	errTwoLive    = errors.New("a lease was given while another was live")
)

// rules are what the mutants lack.
type rules struct {
	tokenAtRelease, margin, fenced, fromSend, tokenAtRenewal bool
}

var sound = rules{tokenAtRelease: true, margin: true, fenced: true, fromSend: true, tokenAtRenewal: true}

func lockModel(holders int, end int8, r rules) explore.Model[lockState] {
	start := lockState{owner: -1}
	for i := range start.holders {
		if i >= holders {
			start.holders[i].phase = ended
		}
	}
	return explore.Model[lockState]{
		Start: start,
		Steps: func(s lockState) []explore.Step[lockState] {
			var steps []explore.Step[lockState]
			add := func(name string, who int, do func(*lockState, *holder)) {
				to := s
				do(&to, &to.holders[who])
				steps = append(steps, explore.Step[lockState]{Name: fmt.Sprintf("%d %s", who, name), To: to})
			}
			for i := range holders {
				r.stepsOf(s, i, add)
			}
			if s.now < end {
				add("tick", 0, func(s *lockState, _ *holder) { s.now++ })
			}
			if s.flushes == 0 && s.owner >= 0 {
				add("flush", 0, func(s *lockState, _ *holder) {
					s.owner, s.lastFence = -1, 0
					s.flushes++
					for i := range s.holders {
						s.holders[i].flushed = true
					}
				})
			}
			return steps
		},
		Check: check,
	}
}

// stepsOf are the steps that holder i can take.
func (r rules) stepsOf(s lockState, i int, add func(string, int, func(*lockState, *holder))) {
	live := s.owner >= 0 && s.now < s.expires
	mine := live && s.owner == int8(i)
	h := s.holders[i]
	believes := (h.phase == holding || h.phase == renewing || h.phase == renewed || h.phase == gone) && s.now < h.until
	switch h.phase {
	case idle:
		add("asks", i, func(s *lockState, h *holder) { h.phase, h.start = asked, s.now })
	case asked:
		if live {
			add("is refused", i, func(_ *lockState, h *holder) { h.phase = refused })
		} else {
			add("is granted", i, func(s *lockState, h *holder) { grant(s, h, i) })
		}
	case granted, renewed:
		add("hears that it has it", i, func(s *lockState, h *holder) {
			h.phase, h.until = holding,
				r.until(s.now, h.start)
		})
	case refused, gone:
		add("hears that it has it not", i, func(_ *lockState, h *holder) { h.phase, h.until = ended, 0 })
	case holding:
		add("asks to renew", i, func(s *lockState, h *holder) { h.phase, h.start = renewing, s.now })
		add("asks to release", i, func(_ *lockState, h *holder) { h.phase, h.until = releasing, 0 })
	case renewing:
		if mine || live && !r.tokenAtRenewal {
			add("is renewed", i, func(s *lockState, h *holder) { h.phase, s.expires = renewed, s.now+modelTTL })
		} else {
			add("is not renewed", i, func(_ *lockState, h *holder) { h.phase = gone })
		}
	case releasing:
		add("is released", i, func(s *lockState, h *holder) {
			if mine || !r.tokenAtRelease {
				s.owner = -1
			}
			h.phase = ended
		})
	}
	if h.phase != ended {
		add("dies", i, func(_ *lockState, h *holder) { h.phase, h.until, h.looked = ended, 0, false })
	}
	if believes && !h.looked && !h.wrote {
		add("sees that it holds the lock", i, func(_ *lockState, h *holder) { h.looked = true })
	}
	if h.looked {
		add("writes", i, func(s *lockState, h *holder) {
			h.looked, h.wrote = false, true
			if r.fenced && h.fence < s.committed {
				return
			}
			s.wrong[staleWrite] = s.wrong[staleWrite] || h.fence < s.committed
			s.committed = max(s.committed, h.fence)
		})
	}
}

func (r rules) until(now, start int8) int8 {
	until := start + modelTTL
	if !r.fromSend {
		until = now + modelTTL
	}
	if r.margin {
		until -= modelEdge
	}
	return until
}

func grant(s *lockState, h *holder, i int) {
	s.micros++
	fence := max(s.micros, s.lastFence+1)
	s.wrong[twoLive] = s.wrong[twoLive] || s.owner >= 0 && s.now < s.expires
	s.wrong[fenceFell] = s.wrong[fenceFell] || fence <= s.greatest
	s.owner, s.expires, s.lastFence = int8(i), s.now+modelTTL, fence
	s.greatest = max(s.greatest, fence)
	h.phase, h.fence, h.flushed = granted, fence, false
}

func check(s lockState) error {
	for part, err := range []error{errFenceFell, errStale, errTwoLive} {
		if s.wrong[part] {
			return err
		}
	}
	for i, h := range s.holders {
		inUse := h.phase == holding || h.phase == renewing || h.phase == renewed
		if inUse && s.now < h.until && !h.flushed && (s.owner != int8(i) || s.now >= s.expires) {
			return fmt.Errorf("%w: %d", errTwoBelieve, i)
		}
	}
	return nil
}

func TestNoOrderOfStepsBreaksTheLocksGuarantees(t *testing.T) {
	for _, size := range [][2]int{{2, testkit.Size(3, 6)}, {3, testkit.Size(0, 2)}} {
		holders, end := size[0], size[1]
		states, err := explore.Exhaustive(lockModel(holders, int8(end), sound))
		if err != nil {
			t.Fatal(err)
		}
		testkit.Figure(t, "each of the %d states that %d holders can reach in %d ticks", states, holders, end)
	}
	walks := testkit.Size(3000, 100_000)
	steps, err := explore.Random(lockModel(maxHolders, 60, sound), 1, walks, 120)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Figure(t, "%d random steps of %d holders over 60 ticks", steps, maxHolders)
}

func TestTheModelCatchesALockWithoutOneOfItsRules(t *testing.T) {
	without := func(change func(*rules)) rules {
		r := sound
		change(&r)
		return r
	}
	for name, mutant := range map[string]struct {
		rules rules
		want  error
	}{
		"release of another's lock": {without(func(r *rules) { r.tokenAtRelease = false }), errTwoBelieve},
		"a lease counted from the reply": {without(func(r *rules) { r.fromSend, r.margin = false, false }),
			errTwoBelieve},
		"writes without Fenced":     {without(func(r *rules) { r.fenced = false }), errStale},
		"renewal of another's lock": {without(func(r *rules) { r.tokenAtRenewal = false }), errTwoBelieve},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := explore.Exhaustive(lockModel(2, 6, mutant.rules)); !errors.Is(err, mutant.want) {
				t.Fatal(err)
			}
		})
	}
}

// What the model takes for the server's steps are the scripts: both are given
// the same requests and have to answer the same.
func TestTheScriptsDoWhatTheModelTakesThemFor(t *testing.T) {
	s := testkit.Redis(t)
	l := locker(t, s, Options{})
	random := rand.New(rand.NewPCG(1, 2))
	ctx, key := t.Context(), l.key("x")
	owner, last := "", int64(0)
	for range testkit.Size(2000, 50_000) {
		token := fmt.Sprint("token", random.IntN(3))
		var got, want any
		var err error
		switch op := random.IntN(8); op {
		case 0, 1, 2:
			var a answer
			a, err = l.acquire(ctx, "x", key, token, time.Hour, false)
			got, want = a.acquired, owner == "" || owner == token
			switch {
			case owner == token && a.fence != last:
				t.Fatalf("the same token has fence %d and then %d", last, a.fence)
			case owner == "" && a.fence <= last:
				t.Fatalf("fence %d after %d", a.fence, last)
			}
			if a.acquired {
				owner, last = token, a.fence
			}
		case 3, 4:
			got, err = renewScript.Run(ctx, l.client, []string{key}, token, time.Hour.Milliseconds()).Bool()
			want = owner == token
		case 5, 6:
			got, err = l.releaseLease(ctx, key, token)
			want = owner == token
			if owner == token {
				owner = ""
			}
		case 7:
			if random.IntN(10) == 0 {
				err = l.client.FlushAll(ctx).Err()
			} else {
				err = l.client.Del(ctx, key).Err() // an expiry
			}
			owner = ""
		}
		if err != nil || got != want {
			t.Fatal(got, want, err)
		}
	}
}
