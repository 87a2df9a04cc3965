package cache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/explore"
)

// The model of one key: a source whose versions count up, the value, lease and
// marks that Redis keeps, readers that fill or refresh, and writers of both
// kinds. Being slow is the others' steps coming in between. Leases and values
// expire at any moment; a write's mark only when its transaction is over, which
// is what WriteTimeout promises. Anybody may die, but for the writer of an
// Invalidate between its commit and its call, which is the stated limit.
const maxReaders, maxWriters = 5, 3

type readerPhase uint8

const (
	asks readerPhase = iota
	leased
	unleased // a write keeps fills out: what it loads isn't stored
	loaded
	done
)

type reader struct {
	phase    readerPhase
	attempt  int8
	version  int8
	storing  bool
	promised int8 // what was invalidated when it began
}

type writerPhase uint8

const (
	begins writerPhase = iota
	marked
	committed
	wrote
)

type writerState struct {
	phase   writerPhase
	marks   bool // it is a Write, not an Invalidate
	version int8
}

type cacheState struct {
	source   int8
	value    int8 // -1 for none
	lease    int8 // a token, -1 for none
	marks    uint8
	promised int8 // the greatest version whose invalidation is over
	stale    bool // a reader got less than was promised when it began
	readers  [maxReaders]reader
	writers  [maxWriters]writerState
}

type cacheRules struct {
	leaseAtFill, tokenAtFill, invalidateLease, mark, markEach bool
}

var soundCache = cacheRules{true, true, true, true, true}

var errStaleValue = errors.New("a value of before an invalidation is stored")

func token(reader int, attempt int8) int8 { return int8(reader)*4 + attempt }

// cacheModel has the given readers, and writers of which the first writes by
// Invalidate and the others by Write.
func cacheModel(readers, writers int, r cacheRules) explore.Model[cacheState] {
	start := cacheState{value: 0, lease: -1}
	for i := range start.readers {
		if i >= readers {
			start.readers[i].phase = done
		}
	}
	for i := range start.writers {
		start.writers[i].marks = i > 0
		if i >= writers {
			start.writers[i].phase = wrote
		}
	}
	return explore.Model[cacheState]{
		Start: start,
		Steps: func(s cacheState) (steps []explore.Step[cacheState]) {
			add := func(name string, who int, do func(*cacheState)) {
				to := s
				do(&to)
				steps = append(steps, explore.Step[cacheState]{Name: fmt.Sprint(name, " ", who), To: to})
			}
			for i := range readers {
				r.readerSteps(s, i, add)
			}
			for i := range writers {
				r.writerSteps(s, i, add)
			}
			if s.lease >= 0 {
				add("the lease expires", 0, func(s *cacheState) { s.lease = -1 })
			}
			if s.value >= 0 {
				add("the value expires", 0, func(s *cacheState) { s.value = -1 })
			}
			return steps
		},
		Check: checkCache,
	}
}

func (r cacheRules) readerSteps(s cacheState, i int, add func(string, int, func(*cacheState))) {
	is := s.readers[i]
	switch {
	case is.phase == asks && s.value >= 0:
		add("reader hits", i, func(s *cacheState) { s.got(i, s.value) })
		if s.marks == 0 && s.lease < 0 {
			add("reader refreshes", i, func(s *cacheState) { s.take(i) })
		}
	case is.phase == asks && s.marks != 0:
		add("reader finds a write", i, func(s *cacheState) {
			s.readers[i].phase, s.readers[i].promised = unleased,
				s.promised
		})
	case is.phase == asks && s.lease < 0:
		add("reader takes the lease", i, func(s *cacheState) { s.take(i) })
	case is.phase == leased, is.phase == unleased:
		add("reader loads", i, func(s *cacheState) {
			s.readers[i].storing = is.phase == leased
			s.readers[i].phase, s.readers[i].version = loaded, s.source
		})
	case is.phase == loaded:
		add("reader is answered", i, func(s *cacheState) {
			mine := s.lease == token(i, is.attempt)
			if is.storing && (mine || !r.tokenAtFill && s.lease >= 0 || !r.leaseAtFill) {
				s.value, s.lease = is.version, -1
			}
			s.got(i, is.version)
		})
	}
	if is.phase == leased || is.phase == loaded {
		add("reader dies", i, func(s *cacheState) { s.readers[i].phase = done })
	}
}

func (s *cacheState) take(i int) {
	s.lease = token(i, s.readers[i].attempt)
	s.readers[i].phase, s.readers[i].promised = leased, s.promised
}

// got ends a read, and lets the reader begin once more.
func (s *cacheState) got(i int, version int8) {
	is := &s.readers[i]
	if is.phase == asks {
		is.promised = s.promised
	}
	s.stale = s.stale || version < is.promised
	*is = reader{phase: asks, attempt: is.attempt + 1}
	if is.attempt == 2 {
		*is = reader{phase: done}
	}
}

func (r cacheRules) writerSteps(s cacheState, i int, add func(string, int, func(*cacheState))) {
	is := s.writers[i]
	mark := uint8(1) << i
	if !r.markEach {
		mark = 1
	}
	end := func(s *cacheState) {
		s.value = -1
		if r.invalidateLease {
			s.lease = -1
		}
		if is.marks {
			s.marks &^= mark
		}
		s.writers[i].phase = wrote
		s.promised = max(s.promised, is.version)
	}
	switch {
	case is.phase == begins && is.marks:
		add("writer marks", i, func(s *cacheState) {
			s.value, s.lease = -1, -1
			if r.mark {
				s.marks |= mark
			}
			s.writers[i].phase = marked
		})
	case is.phase == begins, is.phase == marked:
		add("writer commits", i, func(s *cacheState) {
			s.source++
			s.writers[i].phase, s.writers[i].version = committed, s.source
		})
	case is.phase == committed:
		add("writer invalidates", i, end)
	}
	if is.phase == marked || is.phase == committed && is.marks {
		add("writer dies", i, func(s *cacheState) { s.writers[i].phase = wrote })
	}
	if s.marks&mark != 0 && is.phase == wrote {
		add("the mark expires", i, func(s *cacheState) { s.marks &^= mark })
	}
}

// checkCache: nothing older is stored than what was invalidated, and at rest,
// also after writers have died, nothing older than the source.
func checkCache(s cacheState) error {
	if s.stale || s.value >= 0 && s.value < s.promised {
		return errStaleValue
	}
	for _, w := range s.writers {
		if w.phase == committed && !w.marks {
			return nil // committed and not yet invalidated
		}
	}
	if s.value >= 0 && s.value < s.source {
		return fmt.Errorf("%w, at rest", errStaleValue)
	}
	return nil
}

func TestNoOrderOfStepsStoresAStaleValue(t *testing.T) {
	sizes := [][2]int{{1, 3}, {2, 1}} // readers and writers
	if testkit.Size(0, 1) == 1 {
		sizes = [][2]int{{2, 2}, {2, 3}, {3, 1}}
	}
	for _, size := range sizes {
		states, err := explore.Exhaustive(cacheModel(size[0], size[1], soundCache))
		if err != nil {
			t.Fatal(err)
		}
		testkit.Figure(t, "each of the %d states of %d readers and %d writers", states, size[0], size[1])
	}
	walks := testkit.Size(5000, 200_000)
	steps, err := explore.Random(cacheModel(maxReaders, maxWriters, soundCache), 1, walks, 80)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Figure(t, "%d random steps of %d readers and %d writers", steps, maxReaders, maxWriters)
}

func TestTheModelCatchesACacheWithoutOneOfItsRules(t *testing.T) {
	without := func(change func(*cacheRules)) cacheRules {
		r := soundCache
		change(&r)
		return r
	}
	for name, mutant := range map[string]cacheRules{
		"a fill without a lease":                without(func(r *cacheRules) { r.leaseAtFill = false }),
		"a fill under any lease":                without(func(r *cacheRules) { r.tokenAtFill = false }),
		"an invalidation that leaves the lease": without(func(r *cacheRules) { r.invalidateLease = false }),
		"a write without its mark":              without(func(r *cacheRules) { r.mark = false }),
		"one mark for all writes":               without(func(r *cacheRules) { r.markEach = false }),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			for _, size := range [][2]int{{1, 2}, {1, 3}, {2, 3}} { // the smallest that shows it
				if _, err = explore.Exhaustive(cacheModel(size[0], size[1], mutant)); err != nil {
					break
				}
			}
			if !errors.Is(err, errStaleValue) {
				t.Fatal(err)
			}
		})
	}
}

// What the model takes for Redis's steps are the scripts: both are given the
// same requests and have to answer the same.
func TestTheScriptsDoWhatTheModelTakesThemFor(t *testing.T) {
	c := open[string](t, testkit.Redis(t), Options{})
	random := rand.New(rand.NewPCG(1, 2))
	run := func(s script, args ...any) any {
		t.Helper()
		r := c.run(t.Context(), &budget{time.Minute}, 0, s, []string{"k"}, constant(args...))[0]
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.value
	}
	const long = 3_600_000
	value, lease, marks := "", "", map[string]bool{}
	for range testkit.Size(3000, 50_000) {
		name := fmt.Sprint("token", random.IntN(3))
		switch random.IntN(6) {
		case 0, 1:
			want := any(int64(1))
			switch {
			case value != "":
				want = value
			case len(marks) > 0:
				want = int64(2)
			case lease != "" && lease != name:
				want = int64(0)
			default:
				lease = name
			}
			if got := run(leaseScript, name, long, ""); got != want {
				t.Fatalf("lease: %v, want %v", got, want)
			}
		case 2:
			content, want := fmt.Sprint("v", random.IntN(100)), int64(0)
			if lease == name {
				value, lease, want = content, "", 1
			}
			if got := run(fillScript, name, content, long); got != want {
				t.Fatalf("fill: %v, want %v", got, want)
			}
		case 3:
			run(beginScript, name, long)
			marks[name], value, lease = true, "", ""
		case 4:
			run(invalidateScript, name)
			delete(marks, name)
			value, lease = "", ""
		case 5:
			run(removeScript, name) // the lease, given back
			if lease == name {
				lease = ""
			}
		}
	}
}
