package load

import (
	"os"
	"runtime"
	"time"

	"github.com/purserhq/purser/services/devstack/programs"
)

// Part is a process whose processor time is measured, with all that it has started.
type Part struct {
	Name string
	Pid  int
}

// Shares measures how much processor time the parts of a measurement take.
type Shares struct {
	parts []Part
	at    time.Time
	cpu   []time.Duration
	idle  time.Duration
}

// Share is the processor time of a part.
type Share struct {
	Name string
	CPU  time.Duration
}

// NewShares begins to measure parts, and this process as the generator. The generator does not include its children,
// which are parts of their own. It needs /proc.
func NewShares(parts ...Part) (*Shares, error) {
	s := &Shares{parts: parts, at: time.Now()}
	var err error
	if s.cpu, s.idle, err = s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Shares) read() ([]time.Duration, time.Duration, error) {
	var pids []int
	for _, p := range s.parts {
		pids = append(pids, p.Pid)
	}
	cpu, err := programs.CPU(pids...)
	if err != nil {
		return nil, 0, err
	}
	own, err := programs.OwnCPU(os.Getpid())
	if err != nil {
		return nil, 0, err
	}
	idle, err := programs.Idle()
	return append(cpu, own), idle, err
}

// Take returns what the parts have used since NewShares, or since Take before, then what else ran on the machine and
// what was idle, and how long that was.
func (s *Shares) Take() ([]Share, time.Duration, error) {
	cpu, idle, err := s.read()
	if err != nil {
		return nil, 0, err
	}
	elapsed := time.Since(s.at)
	rest := elapsed * time.Duration(runtime.NumCPU())
	var shares []Share
	add := func(name string, d time.Duration) {
		shares = append(shares, Share{name, max(0, d)})
		rest -= d
	}
	for i, p := range append(s.parts[:len(s.parts):len(s.parts)], Part{Name: "generator, chain, prices"}) {
		add(p.Name, cpu[i]-s.cpu[i])
	}
	add("idle", idle-s.idle)
	add("others", rest)
	s.at, s.cpu, s.idle = time.Now(), cpu, idle
	return shares, elapsed, nil
}
