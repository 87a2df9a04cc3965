package password

// Occupy takes every turn.
func (h *Hasher) Occupy(turns int64) bool { return h.turns.TryAcquire(turns) }

// Leave gives them back.
func (h *Hasher) Leave(turns int64) { h.turns.Release(turns) }

// Read reports whether a hash can be compared with, and at little cost.
func Read(hash string) (cheap, ok bool) {
	p, err := parse(hash)
	return !p.bcrypt && p.params.Memory < 1024 && p.params.Iterations < 4, err == nil
}

// SizedTo is AtOnce with these limits and processors.
func SizedTo(goLimit int64, read func(string) ([]byte, error), processors int) int {
	return atOnce(goLimit, limits(read), processors)
}

// Digest is what the API of breaches is asked by, and what it answers.
func Digest(password string) (prefix, rest string) { return digest(password) }
