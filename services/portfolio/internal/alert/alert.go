// Package alert tells owners when a figure of a portfolio passes a limit that they have set.
//
// It promises: a rule fires once when its figure passes the limit, and again only after the figure was back by more
// than the hysteresis, however many replicas evaluate it and whenever one of them ends: an alert is stored in the
// transaction that changes the state of its rule, by the evaluation that read the state before it read the figure. So
// a figure that moves around the limit fires once, and a restart neither loses a firing nor repeats it. A figure that
// is not known, or doubtful, changes no state. A change that the wallet service announces is evaluated at once;
// everything else once a period.
//
// Limits: what was passed and came back between two evaluations is not seen. The value and the drawdown count deposits
// and withdrawals. Transfers are what amounts differ by between two evaluations: those that cancel out, or that are
// between wallets of the portfolio, are none, and several count together. All values are in USD.
package alert

import (
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
)

// Kind is what a rule watches; the contract says what each means.
type Kind string

// The kinds, by their names in the contract.
const (
	HealthBelow   Kind = "HEALTH_BELOW"
	DrawdownAbove Kind = "DRAWDOWN_ABOVE"
	ValueChange   Kind = "VALUE_CHANGE"
	PriceAbove    Kind = "PRICE_ABOVE"
	PriceBelow    Kind = "PRICE_BELOW"
	WalletAge     Kind = "WALLET_AGE"
	PriceAge      Kind = "PRICE_AGE"
	Transfer      Kind = "TRANSFER"
)

// HasLimit, HasToken and HasWindow report which fields rules of a kind have.
func (k Kind) HasLimit() bool { return k != WalletAge && k != PriceAge }

// HasToken is as HasLimit.
func (k Kind) HasToken() bool {
	return k == PriceAbove || k == PriceBelow || k == PriceAge || k == Transfer
}

// HasWindow is as HasLimit.
func (k Kind) HasWindow() bool { return k == ValueChange || k == WalletAge || k == PriceAge }

// below reports whether a rule fires below its limit.
func (k Kind) below() bool { return k == HealthBelow || k == PriceBelow }

// Rule says when an alert is stored.
type Rule struct {
	ID, Owner, Portfolio uuid.UUID
	Name                 string
	Kind                 Kind
	Limit                *apd.Decimal // above 0; nil without HasLimit
	Token                string       // CAIP-19; "" without HasToken
	Window               time.Duration
	Hysteresis           *apd.Decimal // a fraction of the limit
	Disabled             bool
	CreatedAt, UpdatedAt time.Time
	Version              int64 // of what the owner has set
	State                State
}

// State is what is known of a rule's figure.
type State struct {
	// Fired: it fires again only after the figure was back.
	Fired bool
	// Figure is that of the last change of the state; "" before.
	Figure string
	// FiredAt is when it fired last; zero if it never did.
	FiredAt time.Time
	Base    Base
	// Version changes whenever the state does.
	Version int64
}

// Base is what a figure is compared with.
type Base struct {
	// Amount, in base units, of a token in the wallets of Membership; "" before the first evaluation. Used by kind
	// Transfer only.
	Amount     string `json:",omitempty"`
	Membership int    `json:",omitempty"`
	Decimals   uint8  `json:",omitempty"` // of the token, while some was held
	// MissingSince is when it was first seen that the figure is missing; zero while it is there. Used by kinds
	// WalletAge and PriceAge only.
	MissingSince time.Time `json:",omitzero"`
}

// Alert is one firing of a rule, with the rule as it was.
type Alert struct {
	ID, Owner, Rule, Portfolio uuid.UUID
	RuleName                   string
	Kind                       Kind
	Token                      string
	Limit                      *apd.Decimal
	Window                     time.Duration
	Figure                     string
	FiredAt                    time.Time
	AcknowledgedAt             time.Time // zero until then
	Deliveries                 []Delivery
}

// Delivery is an alert on its way to an endpoint.
type Delivery struct {
	Endpoint        uuid.UUID
	Attempts        int
	LastError       string
	Delivered, Dead bool
	Due             time.Time // while it is neither
}
