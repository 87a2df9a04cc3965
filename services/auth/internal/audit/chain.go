package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

// SealMost is how many events one seal has at most.
const SealMost = 5000

// Hash is a SHA-256.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Sealed is an event as the chain knows it.
type Sealed struct {
	Event
	ID uuid.UUID
	At time.Time // to the microsecond
	// Digest of where it came from.
	Digest []byte
	// Client and Salt are what the digest was made of; nil once erased.
	Client *Client
	Salt   []byte
}

// hash is over every field, each with its length, so that no two events have
// the same bytes. What is erasable is in it by its digest only.
func (e Sealed) hash() Hash {
	h := sha256.New()
	for _, field := range [][]byte{
		e.ID[:], number(e.At.UnixMicro()), []byte(e.Type), []byte(e.Outcome), []byte(e.Reason),
		e.Actor[:], e.Subject[:], []byte(e.Object), e.Digest,
	} {
		h.Write(number(int64(len(field))))
		h.Write(field)
	}
	return Hash(h.Sum(nil))
}

// Seal is one link of the chain.
type Seal struct {
	Number   int64 // from 1
	At       time.Time
	Events   int
	Previous Hash // of the seal before; zeros for the first
	Hash     Hash
}

// next is the seal over events, in this order, after last.
func (last Seal) next(at time.Time, events []Sealed) Seal {
	s := Seal{Number: last.Number + 1, At: at.UTC().Truncate(time.Microsecond), Events: len(events),
		Previous: last.Hash}
	s.Hash = s.over(events)
	return s
}

func (s Seal) over(events []Sealed) Hash {
	h := sha256.New()
	h.Write(s.Previous[:])
	h.Write(number(s.Number))
	h.Write(number(s.At.UnixMicro()))
	h.Write(number(int64(s.Events)))
	for _, e := range events {
		one := e.hash()
		h.Write(one[:])
	}
	return Hash(h.Sum(nil))
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// ChainStore is where the chain is kept.
type ChainStore interface {
	// Seal stores what next makes of the last seal and the events that have
	// none, at most this many, in the order of their ids, and marks them; false
	// when there are none. One at a time: a second waits for the first.
	Seal(ctx context.Context, most int, next func(last Seal, events []Sealed) Seal) (Seal, bool, error)
	// Seals returns those after a number, in order.
	Seals(ctx context.Context, after int64, limit int) ([]Seal, error)
	// Events returns those of a seal in the order of their ids, at most this
	// many.
	Events(ctx context.Context, seal int64, most int) ([]Sealed, error)
	// Stray returns how many events name a seal after last, and how many have
	// none, with the time of the oldest of those.
	Stray(ctx context.Context, last int64) (beyond, unsealed int, oldest time.Time, err error)
}

// Chain seals the events in batches, each over the one before: a chain over
// single events would make every sign-in wait for the one before.
//
// It promises: an event that is changed, removed or added once it is sealed, and
// a seal that is, is found by Verify, and so is a changed address or device that
// was not erased. Limits: who can write to the database can make the whole chain
// anew, or cut its end off; what shows that is a seal's number and hash in a
// place that they can't write to, such as the log, which tells of each.
type Chain struct {
	store  ChainStore
	log    *slog.Logger
	now    func() time.Time
	sealed metric.Int64Counter
}

// NewChain returns the chain in a store.
func NewChain(s ChainStore, log *slog.Logger, now func() time.Time) *Chain {
	c := &Chain{store: s, log: log, now: now}
	// An instrument that can't be made is a no-op one.
	c.sealed, _ = otel.Meter("github.com/purserhq/purser/services/auth/audit").Int64Counter(
		"audit_events_sealed_total",
		metric.WithDescription("Audit events that became part of the chain."))
	return c
}

// Seal seals what is not yet.
func (c *Chain) Seal(ctx context.Context) error {
	for {
		s, made, err := c.store.Seal(ctx, SealMost,
			func(last Seal, events []Sealed) Seal { return last.next(c.now(), events) })
		if err != nil || !made {
			return err
		}
		c.sealed.Add(ctx, int64(s.Events))
		c.log.InfoContext(ctx, "audit events sealed", "seal", s.Number, "events", s.Events, "hash", s.Hash.String())
		if s.Events < SealMost {
			return nil
		}
	}
}

// Report is what was found of a chain that is whole.
type Report struct {
	Last             Seal
	Events, Unsealed int
	// Oldest of the events that have no seal yet; zero when there is none.
	Oldest time.Time
}

// BrokenError is where a chain is.
type BrokenError struct {
	Seal int64
	What string
}

func (b *BrokenError) Error() string {
	return fmt.Sprintf("the chain is broken at seal %d: %s", b.Seal, b.What)
}

// Verify works the chain out anew and compares: *BrokenError for the first place
// where it doesn't hold. known are hashes of seals by their numbers, as the log
// told them; may be nil.
func (c *Chain) Verify(ctx context.Context, known map[int64]Hash) (Report, error) {
	var r Report
	for first := true; ; first = false {
		before := r.Last.Number
		var err error
		if r, err = c.follow(ctx, r, known); err != nil {
			return r, err
		}
		var beyond int
		if beyond, r.Unsealed, r.Oldest, err = c.store.Stray(ctx, r.Last.Number); err != nil {
			return r, err
		}
		if beyond == 0 {
			break
		}
		if !first && r.Last.Number == before { // and not of seals that were made meanwhile
			return r, &BrokenError{before + 1,
				fmt.Sprintf("it is missing, and %d events have it or a later one", beyond)}
		}
	}
	for number := range known {
		if number > r.Last.Number {
			return r, &BrokenError{number, "it is missing"}
		}
	}
	return r, nil
}

// follow checks the seals after those of r.
func (c *Chain) follow(ctx context.Context, r Report, known map[int64]Hash) (Report, error) {
	for {
		seals, err := c.store.Seals(ctx, r.Last.Number, 100)
		if err != nil {
			return r, err
		}
		for _, s := range seals {
			if err := c.check(ctx, r.Last, s, known); err != nil {
				return r, err
			}
			r.Last, r.Events = s, r.Events+s.Events
		}
		if len(seals) == 0 {
			return r, nil
		}
	}
}

func (c *Chain) check(ctx context.Context, last, s Seal, known map[int64]Hash) error {
	if s.Number != last.Number+1 {
		return &BrokenError{last.Number + 1, "it is missing"}
	}
	if s.Previous != last.Hash {
		return &BrokenError{s.Number, "it doesn't follow the one before"}
	}
	if h, ok := known[s.Number]; ok && h != s.Hash {
		return &BrokenError{s.Number, "its hash is not the one that is known"}
	}
	events, err := c.store.Events(ctx, s.Number, max(s.Events, SealMost)+1)
	if err != nil {
		return err
	}
	if len(events) != s.Events {
		return &BrokenError{s.Number, fmt.Sprintf("it is over %d events, and %d have it", s.Events, len(events))}
	}
	for _, e := range events {
		if e.Client != nil && !bytes.Equal(e.Client.Digest(e.Salt), e.Digest) {
			return &BrokenError{s.Number, fmt.Sprintf("where the event %s came from was changed", e.ID)}
		}
	}
	if s.over(events) != s.Hash {
		return &BrokenError{s.Number, "it or one of its events was changed"}
	}
	return nil
}
