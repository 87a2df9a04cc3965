package defi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// maxMarkets bounds what is read with each batch of balances.
const maxMarkets = 200

// Market is a contract of a protocol whose positions are read.
type Market struct {
	Protocol string
	Chain    uint64
	Contract common.Address
}

// String is the market as in the setting: aave-v3@eip155:1:0x…, in lower case.
func (m Market) String() string { return m.Protocol + "@" + m.account().String() }

// Account is the CAIP-10 id of the contract, with the checksum of its chain.
func (m Market) Account() string { return m.account().Display() }

func (m Market) account() caip.Account { return caip.Account{Chain: m.Chain, Address: m.Contract} }

// ParseMarket parses what String returns, in any case that CAIP allows.
func ParseMarket(text string) (Market, error) {
	protocol, account, ok := strings.Cut(text, "@")
	if !ok {
		return Market{}, errors.New("must read <protocol>@<CAIP-10 account of its contract>, for example " +
			"erc4626@eip155:1:0x83f20f44975d03b1b09e64809b757c47f942beea")
	}
	if adapters[protocol] == nil {
		return Market{}, errors.New("protocol " + protocolRule(protocol))
	}
	a, err := caip.ParseAccount(account)
	if err != nil {
		return Market{}, fmt.Errorf("contract %w", err)
	}
	return Market{Protocol: protocol, Chain: a.Chain, Contract: a.Address}, nil
}

// Markets are those of a setting, such as "aave-v3@eip155:1:0x…,erc4626@eip155:1:0x…".
type Markets []Market

// UnmarshalText implements encoding.TextUnmarshaler. The error names each entry that is wrong.
func (ms *Markets) UnmarshalText(text []byte) error {
	*ms = nil
	var wrong []error
	for entry := range strings.SplitSeq(string(text), ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		m, err := ParseMarket(entry)
		if err == nil && slices.Contains(*ms, m) {
			err = errors.New("stands there twice")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("entry %q: %w", entry, err))
			continue
		}
		*ms = append(*ms, m)
	}
	if len(*ms) > maxMarkets {
		wrong = append(wrong, fmt.Errorf("must be at most %d entries, given %d", maxMarkets, len(*ms)))
	}
	return errors.Join(wrong...)
}

// String is the setting.
func (ms Markets) String() string {
	var entries []string
	for _, m := range ms {
		entries = append(entries, m.String())
	}
	return strings.Join(entries, ",")
}

// Check returns an error for each market on a chain of which hasNode says that it has no node. variable is that of the
// markets, nodesVariable that of the nodes.
func (ms Markets) Check(variable, nodesVariable string, hasNode func(chain uint64) bool) error {
	var wrong []error
	for _, m := range ms {
		if !hasNode(m.Chain) {
			wrong = append(wrong, fmt.Errorf("%s: entry %q: %s has no node of chain %d", variable, m, nodesVariable,
				m.Chain))
		}
	}
	return errors.Join(wrong...)
}
