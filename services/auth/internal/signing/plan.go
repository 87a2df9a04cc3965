package signing

import (
	"cmp"
	"slices"
	"time"
)

// Step is what is due of a ring: the transitions that one epoch makes
// together. The zero Step changes nothing.
type Step struct {
	// Promote is a PUBLISHED key that becomes ACTIVE, and Demote the ACTIVE
	// one that becomes RETIRING for it; empty for none.
	Promote, Demote string
	// Waived says that Promote is younger than every verifier's cache: a
	// verifier that doesn't refetch for an unknown key refuses its tokens for
	// a while. Only after a compromise.
	Waived bool
	// Forced says that Promote was asked for before its time.
	Forced bool
	// Retire are RETIRING keys that leave the set.
	Retire []string
	// Shred are keys whose private halves are erased.
	Shred []string
	// Create asks for a new standby, PUBLISHED at once.
	Create bool
	// Next is when something will be due, when nothing else happens; zero
	// when that can't be told before this step is taken.
	Next time.Time
}

// Due reports whether the step changes anything.
func (s Step) Due() bool {
	return s.Promote != "" || s.Create || len(s.Retire) > 0 || len(s.Shred) > 0
}

// Plan decides what is due of a ring's keys at now, by the database's clock.
// forced asks for a new active key before its time, which no key that is too
// young becomes. It is a pure function: of the same ring at the same time
// every replica decides the same.
func Plan(keys []Key, now time.Time, p Policy, forced bool) Step {
	var s Step
	var active *Key
	var standby []Key
	earliest := func(at time.Time) {
		if at.After(now) && (s.Next.IsZero() || at.Before(s.Next)) {
			s.Next = at
		}
	}
	for _, k := range keys {
		switch k.State {
		case Active:
			active = &k
		case Published:
			standby = append(standby, k)
		case Retiring:
			if shred := k.RetiringAt.Add(p.shredAfter()); len(k.Sealed) > 0 && !now.Before(shred) {
				s.Shred = append(s.Shred, k.KID)
			} else if len(k.Sealed) > 0 {
				earliest(shred)
			}
			if retire := k.RetiringAt.Add(p.retireAfter()); !now.Before(retire) {
				s.Retire = append(s.Retire, k.KID)
			} else {
				earliest(retire)
			}
		}
	}
	slices.SortFunc(standby, func(a, b Key) int {
		return cmp.Or(a.PublishedAt.Compare(b.PublishedAt), cmp.Compare(a.KID, b.KID))
	})
	if len(standby) == 0 {
		s.Create = true
		return s
	}
	next := standby[0]
	known := next.PublishedAt.Add(p.KnownAfter()) // to every verifier
	if active == nil {                            // it was compromised
		s.Promote, s.Waived, s.Create = next.KID, now.Before(known), len(standby) == 1
		return s
	}
	due := active.ActivatedAt.Add(p.Period)
	if forced {
		due = now
	}
	if known.After(due) {
		due = known
	}
	if !now.Before(due) {
		s.Promote, s.Demote, s.Create, s.Forced = next.KID, active.KID, len(standby) == 1, forced
		return s
	}
	earliest(due)
	return s
}
