package signing

import (
	"cmp"
	"slices"
	"time"
)

// Step is a set of state transitions of a ring's keys that are made in one
// transaction, which raises the epoch by one. The zero Step changes nothing.
type Step struct {
	// Promote is the kid of the STANDBY key that becomes ACTIVE, Demote that
	// of the ACTIVE key that becomes RETIRING; each empty for none.
	Promote, Demote string
	// PromotedEarly says that Promote was published less than PropagationTime
	// ago: a verifier that doesn't refetch the set for an unknown kid refuses
	// its tokens until its cached set expires. This happens only when the active
	// key was revoked.
	PromotedEarly bool
	// Forced says that Promote was requested before the active key's Period
	// was over.
	Forced bool
	// Retire are the kids of RETIRING keys that leave the set.
	Retire []string
	// Erase are the kids of RETIRING keys whose private halves are erased.
	Erase []string
	// CreateStandby says that a new key is created as STANDBY.
	CreateStandby bool
	// NextDueAt is when the next step will be due if the ring does not change
	// before; zero when that depends on the outcome of this step.
	NextDueAt time.Time
}

// Due reports whether the step changes anything.
func (s Step) Due() bool {
	return s.Promote != "" || s.CreateStandby || len(s.Retire) > 0 || len(s.Erase) > 0
}

// NextStep returns the step of a ring's keys that is due at now, a time of the
// database's clock. forced requests a new active key before the active one's
// Period is over; a standby younger than PropagationTime is not promoted even
// then. NextStep is a pure function, so all replicas decide alike.
func NextStep(keys []Key, now time.Time, p Policy, forced bool) Step {
	var s Step
	var active *Key
	var standby []Key
	dueAt := func(at time.Time) {
		if at.After(now) && (s.NextDueAt.IsZero() || at.Before(s.NextDueAt)) {
			s.NextDueAt = at
		}
	}
	for _, k := range keys {
		switch k.State {
		case Active:
			active = &k
		case Standby:
			standby = append(standby, k)
		case Retiring:
			if eraseAt := k.RetiringAt.Add(p.eraseAfter()); len(k.Sealed) > 0 && !now.Before(eraseAt) {
				s.Erase = append(s.Erase, k.KID)
			} else if len(k.Sealed) > 0 {
				dueAt(eraseAt)
			}
			if retire := k.RetiringAt.Add(p.retireAfter()); !now.Before(retire) {
				s.Retire = append(s.Retire, k.KID)
			} else {
				dueAt(retire)
			}
		}
	}
	slices.SortFunc(standby, func(a, b Key) int {
		return cmp.Or(a.PublishedAt.Compare(b.PublishedAt), cmp.Compare(a.KID, b.KID))
	})
	if len(standby) == 0 {
		s.CreateStandby = true
		return s
	}
	next := standby[0]
	propagated := next.PublishedAt.Add(p.PropagationTime())
	if active == nil { // it was revoked
		s.Promote, s.PromotedEarly, s.CreateStandby = next.KID, now.Before(propagated), len(standby) == 1
		return s
	}
	due := active.ActivatedAt.Add(p.Period)
	if forced {
		due = now
	}
	if propagated.After(due) {
		due = propagated
	}
	if !now.Before(due) {
		s.Promote, s.Demote, s.CreateStandby, s.Forced = next.KID, active.KID, len(standby) == 1, forced
		return s
	}
	dueAt(due)
	return s
}
