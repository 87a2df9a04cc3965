package importing

import (
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// What keeps the rules means what was given; what doesn't names a field.
func FuzzRows(f *testing.F) {
	const token, at, hash = "eip155:1/slip44:60", "2024-03-01T12:00:00Z",
		"0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	f.Add("r1", token, "TRANSFER", "IN", "5", at, "eip155:1:0x00000000000000000000000000000000000000ff", hash)
	f.Add("r2", token, "FEE", "OUT", "0", "2024-03-01T12:00:00.000001+13:45", "", "")
	f.Add("", "eip155:137/erc20:0x", "x", "OUT",
		"115792089237316195423570985008687907853269984665640564039457584007913129639936",
		"1969-12-31T23:59:60Z", "eip155:1:0x", "0X")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, id, token, kind, direction, amount, at, counterparty, hash string) {
		c := checker{chain: 1, now: now}
		b, ok := c.balance(1, BalanceInput{Token: token, Amount: amount, Time: at})
		checkRow(t, ok, c.failures, b.Token, b.Amount.Dec(), amount, b.At)
		c = checker{chain: 1, now: now}
		m, ok := c.transaction(1, TransactionInput{ID: id, Token: token, Kind: kind, Direction: direction,
			Amount: amount, Time: at, Counterparty: counterparty, Hash: hash})
		checkRow(t, ok, c.failures, m.Token, m.Amount.Dec(), amount, m.At)
		if ok && (m.Amount.IsZero() || len(m.Hash) != 0 && len(m.Hash) != 32 || m.ID != id ||
			len(m.Counterparty) != 0 && len(m.Counterparty) != 42) {
			t.Errorf("%+v", m)
		}
	})
}

func checkRow(t *testing.T, ok bool, failures []Failure, token, amount, given string, at time.Time) {
	t.Helper()
	if !ok {
		if len(failures) == 0 || failures[0].Field == "" || failures[0].Rule == "" {
			t.Errorf("refused without a reason: %+v", failures)
		}
		return
	}
	asset, err := caip.ParseAsset(token)
	if err != nil || asset.Chain != 1 || asset.String() != token || amount != given || at.Before(Earliest()) ||
		at.Nanosecond()%1000 != 0 || Position(at) >= 0 {
		t.Errorf("taken: %s of %s (%s) at %s: %v", amount, token, given, at, err)
	}
}
