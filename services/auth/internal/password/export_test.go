package password

// Occupy takes every turn.
func (h *Hasher) Occupy(turns int64) bool { return h.turns.TryAcquire(turns) }

// Leave gives them back.
func (h *Hasher) Leave(turns int64) { h.turns.Release(turns) }
