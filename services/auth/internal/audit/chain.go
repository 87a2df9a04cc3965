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

// MaxEventsPerSeal is the maximal number of events that one seal covers.
const MaxEventsPerSeal = 5000

// Hash is a SHA-256.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// SealedEvent is an event with the fields that the chain covers.
type SealedEvent struct {
	Event
	ID uuid.UUID
	At time.Time // to the microsecond
	// Digest is Client.Digest.
	Digest []byte
	// Client and Salt are the inputs of Digest; nil once erased.
	Client *Client
	Salt   []byte
}

// hash covers every field with its length, so that no two events hash the same
// bytes. Erasable fields are covered by Digest only.
func (e SealedEvent) hash() Hash {
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

// Seal is one link of the hash chain.
type Seal struct {
	Number   int64 // from 1
	At       time.Time
	Events   int  // number of events that it covers
	Previous Hash // hash of the previous seal; zeros for the first
	Hash     Hash
}

// next returns the seal that follows last and covers events, in this order.
func (last Seal) next(at time.Time, events []SealedEvent) Seal {
	s := Seal{Number: last.Number + 1, At: at.UTC().Truncate(time.Microsecond), Events: len(events),
		Previous: last.Hash}
	s.Hash = s.hashOver(events)
	return s
}

// hashOver computes the hash of s over these events.
func (s Seal) hashOver(events []SealedEvent) Hash {
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

// ChainStore is the database of the chain.
type ChainStore interface {
	// Seal passes the last seal and up to limit events without a seal, in the
	// order of their ids, to makeSeal, and stores the result; false when there
	// are no such events. Concurrent calls are serialized.
	Seal(ctx context.Context, limit int, makeSeal func(last Seal, events []SealedEvent) Seal) (Seal, bool, error)
	// Seals returns up to limit seals after a number, in order.
	Seals(ctx context.Context, after int64, limit int) ([]Seal, error)
	// Events returns up to limit events of a seal in the order of their ids.
	Events(ctx context.Context, seal int64, limit int) ([]SealedEvent, error)
	// CountUncovered returns how many events name a seal after last, and how
	// many name none, with the time of the oldest of the latter.
	CountUncovered(ctx context.Context, last int64) (beyond, unsealed int, oldest time.Time, err error)
}

// Chain is a hash chain over batches of events. A chain over single events would
// serialize all sign-ins.
//
// It promises: Verify detects the change, removal or insertion of a sealed event
// and of a seal, and a changed IP address or user agent that was not erased.
//
// Limits: an attacker who can write to the database can recompute the whole chain
// or truncate it. This is detected only by comparing with the number and hash of
// a seal stored elsewhere, such as in the log, where every seal is reported.
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
		metric.WithDescription("Audit events that were sealed."))
	c.sealed.Add(context.Background(), 0)
	return c
}

// Seal seals all events that have no seal.
func (c *Chain) Seal(ctx context.Context) error {
	for {
		s, made, err := c.store.Seal(ctx, MaxEventsPerSeal,
			func(last Seal, events []SealedEvent) Seal { return last.next(c.now(), events) })
		if err != nil || !made {
			return err
		}
		c.sealed.Add(ctx, int64(s.Events))
		c.log.InfoContext(ctx, "audit events sealed", "seal", s.Number, "events", s.Events, "hash", s.Hash.String())
		if s.Events < MaxEventsPerSeal {
			return nil
		}
	}
}

// Report is the result of verifying an intact chain.
type Report struct {
	Last             Seal
	Events, Unsealed int
	// OldestUnsealed is the time of the oldest event without a seal; zero when
	// there is none.
	OldestUnsealed time.Time
}

// BrokenChainError says at which seal the chain is broken, and how.
type BrokenChainError struct {
	Seal   int64
	Detail string
}

func (b *BrokenChainError) Error() string {
	return fmt.Sprintf("the chain is broken at seal %d: %s", b.Seal, b.Detail)
}

// Verify recomputes the chain and compares it with what is stored.
// *BrokenChainError for the first deviation. known are hashes of seals by their
// numbers, from the log; may be nil.
func (c *Chain) Verify(ctx context.Context, known map[int64]Hash) (Report, error) {
	var r Report
	for first := true; ; first = false {
		before := r.Last.Number
		var err error
		if r, err = c.verifySeals(ctx, r, known); err != nil {
			return r, err
		}
		var beyond int
		if beyond, r.Unsealed, r.OldestUnsealed, err = c.store.CountUncovered(ctx, r.Last.Number); err != nil {
			return r, err
		}
		if beyond == 0 {
			break
		}
		if !first && r.Last.Number == before { // not because of a seal that was added meanwhile
			return r, &BrokenChainError{before + 1,
				fmt.Sprintf("it is missing, but %d events name it or a later one", beyond)}
		}
	}
	for number := range known {
		if number > r.Last.Number {
			return r, &BrokenChainError{number, "it is missing"}
		}
	}
	return r, nil
}

// verifySeals verifies the seals after r.Last and adds them to r.
func (c *Chain) verifySeals(ctx context.Context, r Report, known map[int64]Hash) (Report, error) {
	for {
		seals, err := c.store.Seals(ctx, r.Last.Number, 100)
		if err != nil {
			return r, err
		}
		for _, s := range seals {
			if err := c.verifySeal(ctx, r.Last, s, known); err != nil {
				return r, err
			}
			r.Last, r.Events = s, r.Events+s.Events
		}
		if len(seals) == 0 {
			return r, nil
		}
	}
}

// verifySeal verifies s, which has to follow last, and its events.
func (c *Chain) verifySeal(ctx context.Context, last, s Seal, known map[int64]Hash) error {
	if s.Number != last.Number+1 {
		return &BrokenChainError{last.Number + 1, "it is missing"}
	}
	if s.Previous != last.Hash {
		return &BrokenChainError{s.Number, "it doesn't contain the hash of the previous one"}
	}
	if h, ok := known[s.Number]; ok && h != s.Hash {
		return &BrokenChainError{s.Number, "its hash differs from the known one"}
	}
	events, err := c.store.Events(ctx, s.Number, max(s.Events, MaxEventsPerSeal)+1)
	if err != nil {
		return err
	}
	if len(events) != s.Events {
		return &BrokenChainError{s.Number, fmt.Sprintf("it covers %d events, but %d name it", s.Events, len(events))}
	}
	for _, e := range events {
		if e.Client != nil && !bytes.Equal(e.Client.Digest(e.Salt), e.Digest) {
			reason := fmt.Sprintf("the IP address or user agent of event %s was changed", e.ID)
			return &BrokenChainError{s.Number, reason}
		}
	}
	if s.hashOver(events) != s.Hash {
		return &BrokenChainError{s.Number, "it or one of its events was changed"}
	}
	return nil
}
