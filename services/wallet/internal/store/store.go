// Package store has the wallets, tokens, balances, prices and history in Postgres.
// Every query for a user filters by owner: rows of other owners are not found.
package store

import (
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

type tokenRow struct {
	ID       string `gorm:"primaryKey"`
	Chain    string
	Contract string
	Symbol   string
	Name     string
	Decimals int16
	Verified bool

	DecimalsChecked bool
	WithoutCode     bool
	Discovered      bool
	Spam            bool
}

func (tokenRow) TableName() string { return "tokens" }

func tokenToRow(t token.Token) tokenRow {
	r := tokenRow{
		ID: t.ID, Chain: caip.ChainID(t.Chain), Symbol: t.Symbol, Name: t.Name,
		Decimals: int16(t.Decimals), Verified: t.Verified,
	}
	if !t.Native {
		r.Contract = strings.ToLower(t.Contract.Hex())
	}
	return r
}

func tokenFromRow(r tokenRow) (token.Token, error) {
	a, err := caip.ParseAsset(r.ID)
	if err != nil {
		return token.Token{}, fmt.Errorf("token %q in the database: %w", r.ID, err)
	}
	if r.Decimals < 0 || r.Decimals > 255 {
		return token.Token{}, fmt.Errorf("token %q in the database: decimals %d", r.ID, r.Decimals)
	}
	return token.Token{
		ID: r.ID, Chain: a.Chain, Native: a.Native, Contract: a.Contract,
		Symbol: r.Symbol, Name: r.Name, Decimals: uint8(r.Decimals),
		Verified: r.Verified && !r.WithoutCode, Checked: r.DecimalsChecked, WithoutCode: r.WithoutCode,
		Discovered: r.Discovered, Spam: r.Spam,
	}, nil
}

// amount parses a numeric(78,0) as Postgres formats it.
func amount(text string) (uint256.Int, error) {
	var v uint256.Int
	if err := v.SetFromDecimal(text); err != nil {
		return v, fmt.Errorf("amount %q in the database: %w", text, err)
	}
	return v, nil
}

func hash(b []byte) (h common.Hash) {
	copy(h[:], b)
	return h
}
