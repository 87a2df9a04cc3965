package chainlink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/price"
)

// Feed is a feed on chain.
type Feed struct {
	// TokenID is what it prices in US dollars: the id of a token, or a currency.
	TokenID string
	// Chain and Contract are where it is: the proxy, whose aggregator may change.
	Chain    uint64
	Contract common.Address
	// Heartbeat is after how long the feed writes a round although the price has not moved.
	Heartbeat time.Duration
}

// maxHeartbeat is the longest heartbeat that is taken; feeds have up to a day.
const maxHeartbeat = 7 * 24 * time.Hour

// ReadFile reads a file of feeds, a JSON list of objects with the members token_id, chain
// (CAIP-2), address and heartbeat, such as "1h". The error has everything that is wrong
// with it.
func ReadFile(path string) ([]Feed, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(text)
}

func parse(text []byte) ([]Feed, error) {
	var rows []struct {
		TokenID   string `json:"token_id"`
		Chain     string `json:"chain"`
		Address   string `json:"address"`
		Heartbeat string `json:"heartbeat"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&rows); err != nil {
		return nil, fmt.Errorf("must be a JSON list of feeds with token_id, chain, address and heartbeat: %w", err)
	}
	var feeds []Feed
	var wrong []error
	seen := map[string]bool{}
	for i, r := range rows {
		f, err := newFeed(r.TokenID, r.Chain, r.Address, r.Heartbeat)
		if err == nil && seen[f.TokenID] {
			err = fmt.Errorf("token_id %s has a feed already", f.TokenID)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("feed %d: %w", i+1, err))
			continue
		}
		seen[f.TokenID] = true
		feeds = append(feeds, f)
	}
	return feeds, errors.Join(wrong...)
}

func newFeed(tokenID, chain, address, heartbeat string) (f Feed, err error) {
	f.TokenID = tokenID
	if !price.IsCurrency(tokenID) {
		asset, err := caip.ParseAsset(tokenID)
		if err != nil {
			return f, fmt.Errorf("token_id %w, or a currency: %v", err, price.Currencies())
		}
		f.TokenID = asset.String()
	}
	if f.Chain, err = caip.ParseChainID(chain); err != nil {
		return f, fmt.Errorf("chain %w", err)
	}
	if f.Contract, err = caip.ParseAddress(f.Chain, address); err != nil {
		return f, err
	}
	f.Heartbeat, err = time.ParseDuration(heartbeat)
	if err != nil || f.Heartbeat <= 0 || f.Heartbeat > maxHeartbeat {
		return f, fmt.Errorf("heartbeat must be a duration above 0 and up to 168h, such as \"1h\", %s",
			errs.Given(heartbeat))
	}
	return f, nil
}
