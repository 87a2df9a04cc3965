// Package chainlink reads prices from feeds on chain in the shape of Chainlink's data
// feeds (AggregatorV3Interface: latestRoundData, decimals, description).
//
// It promises: an answer that is zero or negative, has no time or one of the future, is no
// price, and the log says why; nor is one of a feed whose description says that it is not
// in US dollars, or whose contract answers with something else than a round. A price is
// good for the feed's heartbeat and no longer: a feed writes a round when the price has
// moved, or when its heartbeat has passed, so a round within the heartbeat is current
// however old it is.
//
// answeredInRound is not looked at. It is before the round in one that timed out, which
// repeats an older answer with the time at which it timed out; but latestRoundData, the one
// call made here, tells the last round that was answered (FluxAggregator sets latestRoundId
// with an answer only), and aggregators of today have both the same.
//
// Source: docs.chain.link, "API Reference" of data feeds, and the contracts of
// @chainlink/contracts.
package chainlink

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Name of the source in prices.
const Name = "chainlink"

// Answer is what the contract of a feed answered. A call that failed has no bytes.
type Answer struct {
	Round, Decimals, Description []byte
}

// Reader reads contracts; package chain does it over JSON-RPC.
type Reader interface {
	// Feeds calls the contracts of feeds at the chain's newest block, in their order.
	Feeds(ctx context.Context, chain uint64, contracts []common.Address) ([]Answer, error)
	// FeedsAt calls them at the last block at or before each of the times, which are in
	// order. A time of which no node has the state, or before the chain, has no answers.
	FeedsAt(ctx context.Context, chain uint64, times []time.Time, contracts []common.Address) ([][]Answer, error)
}

// Source implements price.Feed and price.PastFeed. It is safe for concurrent use.
type Source struct {
	feeds  map[string]Feed // by the id of what they price
	reader Reader
	log    *slog.Logger
	now    func() time.Time
}

// New returns the feeds of a file.
func New(feeds []Feed, r Reader, log *slog.Logger, now func() time.Time) *Source {
	s := &Source{feeds: map[string]Feed{}, reader: r, log: log, now: now}
	for _, f := range feeds {
		s.feeds[f.TokenID] = f
	}
	return s
}

// byChain returns the tokens that have a feed, and their feeds' contracts, by the chains
// that the feeds are on.
func (s *Source) byChain(tokens []token.Token) (byChain map[uint64][]token.Token,
	contracts map[uint64][]common.Address) {
	byChain, contracts = map[uint64][]token.Token{}, map[uint64][]common.Address{}
	for _, t := range tokens {
		if f, has := s.feeds[t.ID]; has {
			byChain[f.Chain] = append(byChain[f.Chain], t)
			contracts[f.Chain] = append(contracts[f.Chain], f.Contract)
		}
	}
	return byChain, contracts
}

// Current implements price.Feed. With an error, the feeds of some chain could not be read.
func (s *Source) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	byChain, contracts := s.byChain(tokens)
	prices, left := map[string]price.Price{}, price.LeftOut{}
	defer left.Log(ctx, s.log, Name)
	for _, chain := range slices.Sorted(maps.Keys(byChain)) {
		answers, err := s.reader.Feeds(ctx, chain, contracts[chain])
		if err != nil {
			return nil, err
		}
		for i, t := range byChain[chain] {
			if p, why := s.read(s.feeds[t.ID], answers[i], s.now()); why == "" {
				prices[t.ID] = p
			} else {
				left.Add(t, why)
			}
		}
	}
	return prices, nil
}

// History implements price.PastFeed by the state of the last block at or before each full
// hour, which takes archive nodes. Where they don't have it, there is no price.
func (s *Source) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	byChain, contracts := s.byChain(tokens)
	out, left := map[string][]price.Price{}, price.LeftOut{}
	defer left.Log(ctx, s.log, Name)
	for _, t := range tokens {
		if _, has := s.feeds[t.ID]; !has {
			out[t.ID] = nil
		}
	}
	times := make([]time.Time, hours)
	for i := range times {
		times[i] = from.Add(time.Duration(i) * time.Hour)
	}
	for _, chain := range slices.Sorted(maps.Keys(byChain)) {
		answers, err := s.reader.FeedsAt(ctx, chain, times, contracts[chain])
		if err != nil {
			return out, err
		}
		for i, t := range byChain[chain] {
			out[t.ID] = []price.Price{}
			for j, at := range times {
				if len(answers[j]) == 0 {
					continue
				}
				p, why := s.read(s.feeds[t.ID], answers[j][i], at)
				if why != "" {
					left.Add(t, why)
					continue
				}
				if n := len(out[t.ID]); n == 0 || out[t.ID][n-1].At.Before(p.At) {
					out[t.ID] = append(out[t.ID], p)
				}
			}
		}
	}
	return out, nil
}

// maxAnswerDecimals is more than any feed has; a price has at most 40 places.
const maxAnswerDecimals = 40

// read reads a round as of a time, or says why it is no price.
func (s *Source) read(f Feed, a Answer, now time.Time) (p price.Price, why string) {
	if len(a.Round) != 5*32 || len(a.Decimals) != 32 {
		return p, "no round"
	}
	if !inDollars(textOf(a.Description)) {
		return p, "not in USD"
	}
	decimals := new(big.Int).SetBytes(a.Decimals)
	if !decimals.IsUint64() || decimals.Uint64() > maxAnswerDecimals {
		return p, "malformed"
	}
	answer, updated := signed(a.Round[32:64]), new(big.Int).SetBytes(a.Round[96:128])
	if answer.Sign() <= 0 {
		return p, "not above zero"
	}
	if !updated.IsInt64() || updated.Sign() == 0 {
		return p, "no time"
	}
	const skew = 5 * time.Minute // between the chain's clock and ours
	if updated.Int64() > now.Add(skew).Unix() {
		return p, "of the future"
	}
	exact := apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(answer), -int32(decimals.Uint64()))
	value, err := price.Parse(exact.Text('f'))
	if err != nil {
		return p, "no price"
	}
	return price.Price{Value: value, Source: Name, At: time.Unix(updated.Int64(), 0).UTC(),
		GoodFor: f.Heartbeat + heartbeatGrace}, ""
}

// heartbeatGrace is how late the round of a heartbeat may be: transactions wait.
const heartbeatGrace = 15 * time.Minute

// signed reads an int256.
func signed(word []byte) *big.Int {
	n := new(big.Int).SetBytes(word)
	if word[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), 256))
	}
	return n
}

// otherQuote is the end of a description such as "LINK / ETH": a pair that is not in US
// dollars. Feeds of others have descriptions of other forms, which say nothing.
var otherQuote = regexp.MustCompile(`^[^/]+/\s*([A-Z]{2,6})\s*$`)

// inDollars reports whether a description is not that of a price in something else.
func inDollars(description string) bool {
	found := otherQuote.FindStringSubmatch(description)
	return found == nil || found[1] == "USD"
}

// textOf decodes a string; "" for anything else.
func textOf(answer []byte) string {
	if len(answer) < 64 {
		return ""
	}
	offset, length := new(big.Int).SetBytes(answer[:32]), new(big.Int).SetBytes(answer[32:64])
	if offset.Cmp(big.NewInt(32)) != 0 || !length.IsUint64() || length.Uint64() > uint64(len(answer)-64) {
		return ""
	}
	return string(bytes.ToValidUTF8(answer[64:64+length.Uint64()], nil))
}
