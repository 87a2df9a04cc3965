package explore_test

import (
	"errors"
	"testing"

	"github.com/purserhq/purser/pkg/testkit/explore"
)

// counter is two clients that each read a number and write it back one greater.
type counter struct {
	value int
	read  [2]int // -1 before, -2 when done
}

var errLost = errors.New("an update was lost")

func model(atomic bool) explore.Model[counter] {
	return explore.Model[counter]{
		Start: counter{read: [2]int{-1, -1}},
		Steps: func(s counter) (steps []explore.Step[counter]) {
			for i := range s.read {
				to := s
				switch {
				case s.read[i] == -1 && atomic:
					to.value, to.read[i] = s.value+1, -2
				case s.read[i] == -1:
					to.read[i] = s.value
				case s.read[i] >= 0:
					to.value, to.read[i] = s.read[i]+1, -2
				default:
					continue
				}
				steps = append(steps, explore.Step[counter]{Name: "step", To: to})
			}
			return steps
		},
		Check: func(s counter) error {
			if s.read == [2]int{-2, -2} && s.value != 2 {
				return errLost
			}
			return nil
		},
	}
}

func TestALostUpdateIsFoundByItsShortestWay(t *testing.T) {
	_, err := explore.Exhaustive(model(false))
	var broken *explore.BrokenError
	if !errors.As(err, &broken) || !errors.Is(err, errLost) || len(broken.Steps) != 4 {
		t.Fatal(err)
	}
	if _, err := explore.Random(model(false), 1, 100, 10); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
}

func TestWhatIsSoundIsVisitedWhole(t *testing.T) {
	if n, err := explore.Exhaustive(model(true)); err != nil || n != 4 {
		t.Fatal(n, err)
	}
	if _, err := explore.Random(model(true), 1, 100, 10); err != nil {
		t.Fatal(err)
	}
}
