package probe

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
)

// Prices asks a feed in the shape of DefiLlama's coins API for the current prices of
// coins, each chain:address, at most 80 of them. It returns the coins that have a
// positive price.
func Prices(ctx context.Context, base string, coins []string) ([]string, error) {
	var reply struct {
		Coins map[string]struct {
			Price json.Number `json:"price"`
		} `json:"coins"`
	}
	address := strings.TrimRight(base, "/") + "/prices/current/" + url.PathEscape(strings.Join(coins, ","))
	if err := get(ctx, address, &reply); err != nil {
		return nil, err
	}
	if reply.Coins == nil {
		return nil, invalid(`the answer has no "coins"`)
	}
	var priced []string
	for _, coin := range coins {
		for name, answer := range reply.Coins {
			if strings.EqualFold(name, coin) && isPositive(answer.Price.String()) {
				priced = append(priced, coin)
			}
		}
	}
	return priced, nil
}

// isPositive reports whether a JSON number is above zero. Its digits are looked at, as
// for every price.
func isPositive(number string) bool {
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	return !strings.HasPrefix(number, "-") && strings.ContainsAny(mantissa, "123456789")
}
