package defi

import (
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

const wordSize = 32

// Answer is what a call returned. It has no bytes when the call failed, when nodes don't agree on it, and when it
// succeeded with nothing, as every call of an address without code does: there is no answer then.
type Answer []byte

// words returns the words of an answer that has exactly n; nil otherwise.
func (a Answer) words(n int) []uint256.Int {
	if len(a) != n*wordSize {
		return nil
	}
	out := make([]uint256.Int, n)
	for i := range out {
		out[i].SetBytes32(a[i*wordSize : (i+1)*wordSize])
	}
	return out
}

// word returns the number of an answer that is exactly one; nil otherwise.
func (a Answer) word() *uint256.Int {
	if w := a.words(1); w != nil {
		return &w[0]
	}
	return nil
}

// index is the number of an answer that is exactly one; zero otherwise.
func (a Answer) index() (index uint256.Int) {
	if w := a.word(); w != nil {
		index = *w
	}
	return index
}

// address returns the address of an answer that is exactly one and not zero.
func (a Answer) address() (address common.Address, ok bool) {
	w := a.word()
	if w == nil {
		return address, false
	}
	return addressOf(w)
}

// addressOf returns the address in a word. The zero address is none.
func addressOf(w *uint256.Int) (address common.Address, ok bool) {
	if w.IsZero() || w.BitLen() > 8*common.AddressLength {
		return address, false
	}
	return common.Address(w.Bytes20()), true
}

// addresses returns those of an answer that is exactly a list of up to maxLen.
func (a Answer) addresses(maxLen int) (list []common.Address, ok bool) {
	if len(a) < 2*wordSize || len(a)%wordSize != 0 {
		return nil, false
	}
	w := a.words(len(a) / wordSize)
	if !w[0].Eq(uint256.NewInt(wordSize)) || !w[1].Eq(uint256.NewInt(uint64(len(w)-2))) || len(w)-2 > maxLen {
		return nil, false
	}
	for i := range w[2:] {
		address, ok := addressOf(&w[2+i])
		if !ok {
			return nil, false
		}
		list = append(list, address)
	}
	return list, true
}

// selector of a method by its signature, such as "balanceOf(address)".
func selector(signature string) []byte { return crypto.Keccak256([]byte(signature))[:4] }

// The methods of tokens.
var (
	balanceOf   = selector("balanceOf(address)")
	totalSupply = selector("totalSupply()")
)

// call is a call of a method with these arguments, a word each.
func call(to common.Address, method []byte, args ...*uint256.Int) Call {
	data := append([]byte(nil), method...)
	for _, a := range args {
		word := a.Bytes32()
		data = append(data, word[:]...)
	}
	return Call{To: to, Data: data}
}

// callFor is a call of a method whose first argument is an address.
func callFor(to common.Address, method []byte, who common.Address, more ...*uint256.Int) Call {
	return call(to, method, append([]*uint256.Int{new(uint256.Int).SetBytes(who[:])}, more...)...)
}

// ofEach is a call of a method about each holder.
func ofEach(to common.Address, method []byte, holders []common.Address) []Call {
	calls := make([]Call, len(holders))
	for i, h := range holders {
		calls[i] = callFor(to, method, h)
	}
	return calls
}

// decimal is v/10^places, exactly, without zeros at its end.
func decimal(v *uint256.Int, places int) string {
	digits := v.Dec()
	if len(digits) <= places {
		digits = strings.Repeat("0", places+1-len(digits)) + digits
	}
	whole, part := digits[:len(digits)-places], strings.TrimRight(digits[len(digits)-places:], "0")
	if part == "" {
		return whole
	}
	return whole + "." + part
}
