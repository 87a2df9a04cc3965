package importing

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// Earliest is the first time of a row: no EVM chain is older.
func Earliest() time.Time { return time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC) }

// maxID is how long the id of a row may be.
const maxID = 100

// checker applies the rules to rows of a wallet on chain, and keeps the failures.
type checker struct {
	chain    uint64
	now      time.Time
	failures []Failure
	seen     map[string]int // the row of each key
}

func (c *checker) fail(row int, field, given, rule string) {
	c.failures = append(c.failures, Failure{row, field, errs.Given(given), rule})
}

// once reports whether no row before has the key.
func (c *checker) once(row int, field, given, key string) bool {
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	if before, ok := c.seen[key]; ok {
		c.fail(row, field, given, fmt.Sprintf("must not be in one import twice: row %d has the same", before))
		return false
	}
	c.seen[key] = row
	return true
}

func (c *checker) balance(row int, in BalanceInput) (b Balance, ok bool) {
	before := len(c.failures)
	b.Row = row
	b.Token = c.token(row, in.Token)
	b.Amount = c.amount(row, in.Amount, false)
	b.At = c.time(row, in.Time)
	if len(c.failures) > before {
		return b, false
	}
	return b, c.once(row, "time", in.Time, b.Token+" "+b.At.String())
}

func (c *checker) transaction(row int, in TransactionInput) (t Transaction, ok bool) {
	before := len(c.failures)
	t.Row, t.ID = row, in.ID
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if in.ID == "" || len(in.ID) > maxID || strings.ContainsFunc(in.ID, odd) {
		c.fail(row, "row_id", in.ID, fmt.Sprintf("must be 1 to %d printable ASCII characters without spaces", maxID))
	}
	t.Token = c.token(row, in.Token)
	switch in.Kind {
	case "", string(transaction.Transfer):
		t.Kind = transaction.Transfer
	case string(transaction.Fee):
		t.Kind = transaction.Fee
	default:
		c.fail(row, "kind", in.Kind, "must be TRANSFER or FEE, or be left out for a TRANSFER")
	}
	switch {
	case t.Kind == transaction.Fee && in.Direction != string(transaction.Out):
		c.fail(row, "direction", in.Direction, "must be OUT for a FEE")
	case in.Direction == string(transaction.Out):
		t.Out = true
	case in.Direction != string(transaction.In):
		c.fail(row, "direction", in.Direction, "must be IN or OUT")
	}
	t.Amount = c.amount(row, in.Amount, true)
	t.At = c.time(row, in.Time)
	t.Counterparty = c.counterparty(row, in, t.Kind)
	if in.Hash != "" {
		digits, prefixed := strings.CutPrefix(in.Hash, "0x")
		raw, err := hex.DecodeString(digits)
		if !prefixed || err != nil || len(raw) != 32 {
			c.fail(row, "transaction_hash", in.Hash, "must be 0x and 64 hexadecimal digits, or be left out")
		}
		t.Hash = raw
	}
	if len(c.failures) > before {
		return t, false
	}
	return t, c.once(row, "row_id", in.ID, in.ID)
}

func (c *checker) counterparty(row int, in TransactionInput, k transaction.Kind) string {
	if in.Counterparty == "" {
		return ""
	}
	if k == transaction.Fee {
		c.fail(row, "counterparty", in.Counterparty, "must be left out for a FEE")
		return ""
	}
	a, err := caip.ParseAccount(in.Counterparty)
	switch {
	case err != nil:
		c.fail(row, "counterparty", in.Counterparty, err.Error())
	case a.Chain != c.chain:
		c.fail(row, "counterparty", in.Counterparty, "must be on the wallet's chain, "+caip.ChainID(c.chain))
	}
	return strings.ToLower(a.Address.Hex())
}

func (c *checker) token(row int, text string) string {
	a, err := caip.ParseAsset(text)
	switch {
	case err != nil:
		c.fail(row, "token_id", text, err.Error())
	case a.Chain != c.chain:
		c.fail(row, "token_id", text, "must be on the wallet's chain, "+caip.ChainID(c.chain))
	}
	return a.String()
}

func (c *checker) amount(row int, text string, aboveZero bool) (v uint256.Int) {
	rule := "must be a whole number of base units without sign, leading zeros or decimal point, 0 to 2^256-1"
	if aboveZero {
		rule = strings.Replace(rule, "0 to", "1 to", 1)
	}
	plain := text != "" && strings.Trim(text, "0123456789") == "" && (text == "0" || text[0] != '0')
	if !plain || v.SetFromDecimal(text) != nil || aboveZero && v.IsZero() {
		c.fail(row, "amount", text, rule)
	}
	return v
}

func (c *checker) time(row int, text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	switch {
	case err != nil:
		c.fail(row, "time", text, `must be a time such as "2024-03-01T12:00:00Z"`)
	case at.Nanosecond()%1000 != 0:
		c.fail(row, "time", text, "must be in whole microseconds")
	case at.Before(Earliest()):
		c.fail(row, "time", text, "must be "+Earliest().Format(time.RFC3339)+" or later")
	case at.After(c.now):
		c.fail(row, "time", text, "must not be in the future: it is "+c.now.UTC().Format(time.RFC3339)+" now")
	}
	return at.UTC()
}
