package chain_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/chain"
)

// What a node answers to a question for a block is refused, or is a block whose number and time can be stored.
func FuzzHeader(f *testing.F) {
	const hash = "0x00000000000000000000000000000000000000000000000000000000000000aa"
	f.Add([]byte(`{"number":"0x10","hash":"` + hash + `","timestamp":"0x65f00000"}`))
	f.Add([]byte(`{"number":"0xffffffffffffffff","hash":"` + hash + `","timestamp":"0x0"}`))
	f.Add([]byte(`{"number":"0x1","hash":"` + hash + `","timestamp":"0xffffffffffffffff"}`))
	f.Add([]byte(`{"number":"0x1","hash":null,"timestamp":"0x1"}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, reply []byte) {
		b, err := chain.BlockIn(reply)
		if err != nil {
			return
		}
		text, failed := b.Time.MarshalText()
		var read time.Time
		if err := errors.Join(failed, read.UnmarshalText(text)); b.Number > math.MaxInt64 || b.Time.Unix() < 0 ||
			b.Time.Year() > 40_000 || b.Time.Year() < 10_000 && (err != nil || !read.Equal(b.Time)) {
			t.Errorf("%s is block %d of %s, which reads as %s, %v", reply, b.Number, b.Time, read, err)
		}
	})
}
