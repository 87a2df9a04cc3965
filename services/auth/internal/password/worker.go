package password

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// workerVariable makes a program that has this package serve hashes instead of doing
	// what it is for; its value is how many at once.
	workerVariable = "PURSER_PASSWORD_WORKER"
	// workerTimeout is after how long without an answer a worker counts as hung.
	workerTimeout = 30 * time.Second
	// workerIdle is after how long without a request a worker gives its memory back.
	workerIdle = 2 * time.Second
	// workerPriority is the nice value of a worker: a tenth of what a process gets that has the usual one, while both
	// want a processor. With the lowest one a worker would stand still on a machine that is busy with other things.
	workerPriority = 10
	// workerMemory is what a worker takes beside its hashes, in bytes.
	workerMemory = 16 << 20
)

// A process that is not the service's own has to be the program itself, which is the only one in an image. Its main
// function would first need to be told about it in each program and each test that has a service.
func init() { //nolint:gochecknoinits // see above
	if n, err := strconv.Atoi(os.Getenv(workerVariable)); err == nil && n > 0 {
		runtime.GOMAXPROCS(n)
		lowerPriority()
		serveHashes(os.Stdin, os.Stdout)
		os.Exit(0)
	}
}

// lowerPriority lets everything else on the machine go first. Linux has a priority for
// each thread, which those that it starts inherit.
func lowerPriority() {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, workerPriority) // may be forbidden
	tasks, _ := os.ReadDir("/proc/self/task")                        // on Linux alone
	for _, t := range tasks {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, workerPriority)
		}
	}
}

// hashRequest asks a worker to compare a password with a hash, or to hash it when there
// is no hash.
type hashRequest struct {
	ID       uint64 `json:"id"`
	Password []byte `json:"password"`
	Hash     string `json:"hash,omitempty"`
}

type hashResponse struct {
	ID      uint64 `json:"id"`
	Hash    string `json:"hash,omitempty"`
	Matches bool   `json:"matches,omitempty"`
	Error   string `json:"error,omitempty"`
}

// serveHashes answers requests until in ends. Whoever sends them bounds how many run at
// once.
func serveHashes(in io.Reader, out io.Writer) {
	var mu sync.Mutex
	var all sync.WaitGroup
	defer all.Wait()
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	idle := time.AfterFunc(workerIdle, debug.FreeOSMemory)
	defer idle.Stop()
	for {
		var r hashRequest
		if requests.Decode(&r) != nil {
			return
		}
		idle.Reset(workerIdle)
		all.Go(func() {
			answer := answerTo(r)
			mu.Lock()
			defer mu.Unlock()
			_ = answers.Encode(answer) // the service has ended; so will in
		})
	}
}

func answerTo(r hashRequest) hashResponse {
	answer := hashResponse{ID: r.ID}
	var err error
	if r.Hash == "" {
		answer.Hash, err = here{*parameters()}.hash(string(r.Password))
	} else {
		var p parsed
		if p, err = parse(r.Hash); err == nil {
			answer.Matches, err = p.matches(string(r.Password))
		}
	}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer
}

// worker hashes in a process of low priority, which is started with the first
// hash, and again after it has ended.
type worker struct {
	program string // "" for this one
	slots   int
	log     *slog.Logger

	mu      sync.Mutex
	running *workerProcess // nil when there is none
	closed  bool
	refused bool // it can't be started: this process hashes
}

// workerProcess is a process that runs.
type workerProcess struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{} // closed when no answer can come any more

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan hashResponse
}

// reserveMemory lowers the limit of this process, if it has one, by what a worker takes: a
// container's limit is for both.
func reserveMemory(slots int64) {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		debug.SetMemoryLimit(max(limit/2, limit-workerMemory-slots*MemoryKiB<<10))
	}
}

var errWorkerEnded = errors.New("the process that hashes passwords has ended")

// hash implements hashing.
func (w *worker) hash(password string) (string, error) {
	answer, err := w.ask(hashRequest{Password: []byte(password)})
	return answer.Hash, err
}

// compare implements hashing.
func (w *worker) compare(p parsed, password string) (bool, error) {
	answer, err := w.ask(hashRequest{Password: []byte(password), Hash: p.hash})
	return answer.Matches, err
}

// ask has a request answered, by another process when the first ends meanwhile.
func (w *worker) ask(r hashRequest) (hashResponse, error) {
	for range 2 {
		p, err := w.process()
		if err != nil {
			return hashResponse{}, err
		}
		if p == nil {
			return checked(answerTo(r))
		}
		answer, err := p.ask(r)
		if err == nil {
			return checked(answer)
		}
		w.log.Warn("the process that hashes passwords is started again", "error", err)
		w.discard(p)
	}
	return hashResponse{}, errs.Unavailable("PASSWORD_HASHING_UNAVAILABLE", "passwords can't be checked now")
}

func checked(answer hashResponse) (hashResponse, error) {
	if answer.Error != "" {
		return answer, errors.New(answer.Error)
	}
	return answer, nil
}

// process returns the one that runs, and nil when this process has to hash itself.
func (w *worker) process() (*workerProcess, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errs.Unavailable("PASSWORD_HASHING_UNAVAILABLE", "the service is stopping")
	}
	if w.running == nil && !w.refused {
		p, err := startWorker(w.program, w.slots)
		if err != nil {
			w.refused = true
			w.log.Warn("passwords are hashed in the service itself, since no process can be started for it",
				"error", err)
		}
		w.running = p
	}
	return w.running, nil
}

// discard forgets a process that doesn't answer.
func (w *worker) discard(p *workerProcess) {
	w.mu.Lock()
	if w.running == p {
		w.running = nil
	}
	w.mu.Unlock()
	p.kill()
}

// close ends the process. A hash that is asked for afterwards fails.
func (w *worker) close() {
	w.mu.Lock()
	p := w.running
	w.running, w.closed = nil, true
	w.mu.Unlock()
	if p != nil {
		p.kill()
	}
}

func startWorker(program string, slots int) (*workerProcess, error) {
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find the program: %w", err)
		}
	}
	cmd := exec.CommandContext(context.Background(), program)
	// Nothing of the service's environment, which has its secrets.
	cmd.Env = []string{workerVariable + "=" + strconv.Itoa(slots)}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &workerProcess{cmd: cmd, in: in, ended: make(chan struct{}), waiting: map[uint64]chan hashResponse{}}
	go p.read(out)
	return p, nil
}

// read gives answers to whoever waits for them, until the process ends.
func (p *workerProcess) read(out io.Reader) {
	defer close(p.ended)
	answers := json.NewDecoder(out)
	for {
		var answer hashResponse
		if answers.Decode(&answer) != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			return
		}
		p.mu.Lock()
		waiting := p.waiting[answer.ID]
		delete(p.waiting, answer.ID)
		p.mu.Unlock()
		if waiting != nil {
			waiting <- answer
		}
	}
}

// kill ends the process and waits until it has.
func (p *workerProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func (p *workerProcess) ask(r hashRequest) (hashResponse, error) {
	answer := make(chan hashResponse, 1)
	p.mu.Lock()
	p.last++
	r.ID = p.last
	p.waiting[r.ID] = answer
	line, err := json.Marshal(r)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return hashResponse{}, fmt.Errorf("%w: %w", errWorkerEnded, err)
	}
	timeout := time.NewTimer(workerTimeout)
	defer timeout.Stop()
	select {
	case a := <-answer:
		return a, nil
	case <-p.ended:
		return hashResponse{}, errWorkerEnded
	case <-timeout.C:
		return hashResponse{}, fmt.Errorf("no answer within %s", workerTimeout)
	}
}
