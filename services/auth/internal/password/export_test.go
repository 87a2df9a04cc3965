package password

// AcquireSlots takes slots without waiting.
func (h *Hasher) AcquireSlots(slots int64) bool {
	h.queue.mu.Lock()
	defer h.queue.mu.Unlock()
	if h.queue.free < slots {
		return false
	}
	h.queue.free -= slots
	return true
}

// ReleaseSlots undoes AcquireSlots.
func (h *Hasher) ReleaseSlots(slots int64) { h.queue.release(slots) }

// Read reports whether a hash can be compared with, and at little cost.
func Read(hash string) (cheap, ok bool) {
	p, err := parse(hash)
	return !p.bcrypt && p.params.Memory < 1024 && p.params.Iterations < 4, err == nil
}

// SizedTo is MaxConcurrent with these limits and processors.
func SizedTo(goLimit int64, read func(string) ([]byte, error), processors int) int {
	return maxConcurrent(goLimit, limits(read), processors)
}

// Digest is digest.
func Digest(password string) (prefix, suffix string) { return digest(password) }

// WorkerPid is the id of the process that hashes; 0 when there is none.
func (h *Hasher) WorkerPid() int {
	h.worker.mu.Lock()
	defer h.worker.mu.Unlock()
	if h.worker.running == nil {
		return 0
	}
	return h.worker.running.cmd.Process.Pid
}

// UseProgram has another program hash, which can't.
func (h *Hasher) UseProgram(program string) { h.worker.program = program }
