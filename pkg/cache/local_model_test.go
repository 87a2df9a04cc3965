package cache

import (
	"errors"
	"fmt"
	"testing"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/explore"
)

// The model of what a process keeps of one key: Redis's value, whose versions count
// up, the messages on the connection, in order, and readers that ask for a ticket,
// read, and keep. Connections end and begin at any moment; a probe is a message like
// the others. Time is the step in which trust ends; while a value is trusted a lost
// message may not be noticed, which is what LocalBound is for.
const localReaders, localMessages = 2, 4

type localReader struct {
	phase   int8 // 0 begins, 3 has one half of a ticket, 1 has a ticket, 2 has read
	ticket  int8
	version int8
}

type localState struct {
	value     int8 // Redis's
	kept      int8 // -1 for none
	tickets   int8 // version of the shard
	connected bool
	trusted   bool
	lost      bool // a message was lost with its connection
	noticed   bool // the end of the last connection
	probed    bool // a probe has been sent on this connection
	messages  [localMessages]int8
	pending   int8 // messages under way
	readers   [localReaders]localReader
}

type localRules struct{ checkTicket, countDrops, dropOnLoss, trustAfterProbe, track, versionFirst bool }

var soundLocal = localRules{true, true, true, true, true, true}

var errStaleInMemory = errors.New("memory has an old value, and no message is under way")

const probeMessage = -1

func localModel(r localRules) explore.Model[localState] {
	return explore.Model[localState]{
		Start: localState{kept: -1},
		Steps: func(s localState) (steps []explore.Step[localState]) {
			add := func(name string, do func(*localState)) {
				to := s
				do(&to)
				steps = append(steps, explore.Step[localState]{Name: name, To: to})
			}
			r.connectionSteps(s, add)
			if s.value < 3 && s.pending < localMessages {
				add("redis changes", func(s *localState) {
					s.value++
					if s.connected {
						s.send(s.value)
					}
				})
			}
			for i := range s.readers {
				r.localReaderSteps(s, i, add)
			}
			return steps
		},
		Check: func(s localState) error {
			if !s.trusted || s.lost || s.kept < 0 || s.kept == s.value {
				return nil
			}
			for _, m := range s.messages[:s.pending] {
				if m != probeMessage && m > s.kept {
					return nil
				}
			}
			return fmt.Errorf("%w: %d of %d", errStaleInMemory, s.kept, s.value)
		},
	}
}

func (s *localState) send(m int8) {
	s.messages[s.pending] = m
	s.pending++
}

func (s *localState) drop(r localRules) {
	s.kept = -1
	if r.countDrops {
		s.tickets++
	}
}

func (r localRules) connectionSteps(s localState, add func(string, func(*localState))) {
	if !s.connected {
		if s.noticed {
			add("it connects", func(s *localState) {
				s.connected, s.trusted, s.probed = r.track, !r.trustAfterProbe, false
			})
		} else {
			add("it is noticed", func(s *localState) { // which ends the trust
				s.trusted, s.lost, s.noticed = false, false, true
				if r.dropOnLoss {
					s.drop(r)
				}
			})
		}
		if s.trusted {
			add("trust ends", func(s *localState) { s.trusted = false })
		}
		return
	}
	if !s.probed && s.pending < localMessages {
		add("a probe is sent", func(s *localState) { s.probed = true; s.send(probeMessage) })
	}
	if s.pending > 0 {
		add("a message arrives", func(s *localState) {
			m := s.messages[0]
			copy(s.messages[:], s.messages[1:])
			s.pending--
			s.messages[s.pending] = 0
			if m == probeMessage {
				s.trusted = true
				return
			}
			s.kept = -1
			s.tickets++
		})
	}
	add("the connection ends", func(s *localState) {
		s.connected, s.noticed = false, false
		s.lost = s.trusted // until it is noticed
		s.messages, s.pending = [localMessages]int8{}, 0
	})
}

func (r localRules) localReaderSteps(s localState, i int, add func(string, func(*localState))) {
	switch is := s.readers[i]; is.phase {
	case 0, 3:
		half := is
		half.phase = 3
		if is.phase == 3 {
			half.phase = 1
		}
		if takes := r.versionFirst == (is.phase == 0); takes {
			half.ticket = s.tickets
		} else if !s.trusted {
			half = localReader{}
		}
		add(fmt.Sprint("reader takes half a ticket ", i), func(s *localState) { s.readers[i] = half })
	case 1:
		add(fmt.Sprint("reader reads ", i), func(s *localState) {
			s.readers[i].phase, s.readers[i].version = 2, s.value
		})
	case 2:
		add(fmt.Sprint("reader keeps ", i), func(s *localState) {
			if is.ticket == s.tickets || !r.checkTicket {
				s.kept = is.version
			}
			s.readers[i] = localReader{}
		})
	}
}

// bounded ends walks that only connect: three drops are enough to see all.
func bounded(m explore.Model[localState]) explore.Model[localState] {
	steps := m.Steps
	m.Steps = func(s localState) []explore.Step[localState] {
		if s.tickets > 5 {
			return nil
		}
		return steps(s)
	}
	return m
}

func TestNoOrderOfStepsLeavesAnOldValueInMemory(t *testing.T) {
	states, err := explore.Exhaustive(bounded(localModel(soundLocal)))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Figure(t, "each of the %d states of %d readers of a process's memory", states, localReaders)
}

func TestTheModelCatchesAMemoryWithoutOneOfItsRules(t *testing.T) {
	for name, change := range map[string]func(*localRules){
		"tickets that stay valid":              func(r *localRules) { r.checkTicket = false },
		"tickets of the time after a drop":     func(r *localRules) { r.versionFirst = false },
		"tickets that outlive a drop":          func(r *localRules) { r.countDrops = false },
		"a lost connection that drops nothing": func(r *localRules) { r.dropOnLoss = false },
		"trust in a connection that does not track": func(r *localRules) {
			r.trustAfterProbe, r.track = false, false
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules := soundLocal
			change(&rules)
			if _, err := explore.Exhaustive(bounded(localModel(rules))); !errors.Is(err, errStaleInMemory) {
				t.Fatal(err)
			}
		})
	}
}
