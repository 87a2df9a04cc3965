package suite

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/purserhq/purser/services/devstack/chain"
)

// writeFeeds writes the file of PURSER_PRICE_FEEDS with the feeds on the embedded chain, for the price source
// "chainlink". They have a price at each full hour.
func writeFeeds(path string, c *chain.Chain) error {
	id := fmt.Sprintf("eip155:%d", c.ChainID())
	tokens := map[string]string{"ETH": id + "/slip44:60"}
	for _, t := range c.Tokens() {
		tokens[t.Symbol] = id + "/erc20:" + strings.ToLower(t.Address.Hex())
	}
	feeds := []map[string]string{}
	for _, f := range chain.PriceFeeds() {
		priced := tokens[f.Symbol]
		if priced == "" {
			priced = f.Symbol // a currency
		}
		feeds = append(feeds, map[string]string{"token_id": priced, "chain": id, "address": f.Address.Hex(),
			"heartbeat": "2h"})
	}
	text, err := json.MarshalIndent(feeds, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("price feeds: %w", err)
	}
	return nil
}
