package rpc

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/bucket"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/pricehistory"
	"github.com/purserhq/purser/services/wallet/internal/priceimport"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// PriceServer serves purser.wallet.v1.PriceService.
type PriceServer struct {
	walletv1.UnimplementedPriceServiceServer
	prices  *price.Service
	history *pricehistory.Service
	imports *priceimport.Service
	limits  PriceLimits
}

// NewPriceServer serves prices.
func NewPriceServer(p *price.Service, h *pricehistory.Service, i *priceimport.Service, l PriceLimits) *PriceServer {
	return &PriceServer{prices: p, history: h, imports: i, limits: l}
}

// PriceLimits are those on how often a caller may have the sources asked for past prices.
type PriceLimits struct {
	Calls          *bucket.Limiter
	ReadsPerMinute int
}

// take charges a page that is not stored. The error is errs.Exhausted
// (TOO_MANY_PRICE_READS).
func (l PriceLimits) take(ctx context.Context, caller uuid.UUID) error {
	wait := l.Calls.Take(ctx, bucket.Bucket{Kind: "price_read", Key: caller.String(), PerMinute: l.ReadsPerMinute})
	if wait == 0 {
		return nil
	}
	return errs.Exhausted("TOO_MANY_PRICE_READS", fmt.Sprintf("%d pages of past prices that are not stored yet can "+
		"be read in a minute (PURSER_PRICE_READS_PER_MINUTE); wait for the time in RetryInfo", l.ReadsPerMinute)).
		With("limit", strconv.Itoa(l.ReadsPerMinute)).After(wait)
}

// GetPrices implements the RPC.
func (s *PriceServer) GetPrices(ctx context.Context, req *walletv1.GetPricesRequest) (*walletv1.GetPricesResponse,
	error) {
	ids, err := pricedIDs(req.GetTokenIds())
	if err != nil {
		return nil, err
	}
	currency, err := s.currency(ctx, req.GetCurrency())
	if err != nil {
		return nil, err
	}
	asked := ids
	if currency != nil {
		asked = append(slices.Clone(ids), currency.ID)
	}
	quotes, err := s.prices.LookUp(ctx, asked)
	if err != nil {
		return nil, err
	}
	resp := &walletv1.GetPricesResponse{}
	for _, id := range ids {
		p := quoteToProto(quotes[id])
		if currency != nil {
			p = convertedToProto(quotes[id], price.RateOf(quotes[currency.ID]))
		}
		resp.Prices = append(resp.Prices, p)
	}
	return resp, nil
}

// ListPriceHistory implements the RPC.
func (s *PriceServer) ListPriceHistory(ctx context.Context,
	req *walletv1.ListPriceHistoryRequest) (*walletv1.ListPriceHistoryResponse, error) {
	id, err := pricedID("token_id", req.GetTokenId())
	if err != nil {
		return nil, err
	}
	from, until, err := historyHours(req.GetStartTime(), req.GetEndTime(), time.Now())
	if err != nil {
		return nil, err
	}
	currency, err := s.currency(ctx, req.GetCurrency())
	if err != nil {
		return nil, err
	}
	known, err := s.prices.Known(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	t, has := known[id]
	if !has {
		return nil, errs.Unlisted("token", id, "see TokenService.ListTokens")
	}
	query := page.NewQuery("ListPriceHistory", id, req.GetCurrency(), from.String(), until.String())
	start, continued, err := page.Parse[int64](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	first := from
	if continued {
		if start < from.Unix() || start >= until.Unix() || start%int64(time.Hour/time.Second) != 0 {
			return nil, errs.Invalid("page_token", page.Rule)
		}
		first = time.Unix(start, 0).UTC()
	}
	end := first.Add(time.Duration(page.Size(req.GetPageSize(), defaultRowsPerPage, maxRowsPerPage)) * time.Hour)
	resp := &walletv1.ListPriceHistoryResponse{}
	if end.Before(until) {
		if resp.NextPageToken, err = page.Token(query, end.Unix()); err != nil {
			return nil, err
		}
	} else {
		end = until
	}
	caller := authn.CallerFrom(ctx).UserID
	quotes, err := s.history.List(ctx, pricehistory.Query{Token: t, Currency: currency, From: first, Until: end,
		MayRead: func(ctx context.Context) error { return s.limits.take(ctx, caller) }})
	if err != nil {
		return nil, err
	}
	for _, q := range quotes {
		p := quoteToProto(q.Quote)
		if currency != nil {
			p = convertedToProto(q.Quote, q.Rate)
		}
		resp.Prices = append(resp.Prices, &walletv1.HistoricalPrice{HourTime: timestamppb.New(q.Hour), Price: p})
	}
	return resp, nil
}

// currency returns what prices are converted to; nil for US dollars. The error is
// errs.Invalid.
func (s *PriceServer) currency(ctx context.Context, text string) (currency *token.Token, err error) {
	if text == "" || text == price.USD {
		return currency, nil
	}
	id, err := currencyID(text)
	if err != nil {
		return nil, err
	}
	known, err := s.prices.Known(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	t, has := known[id]
	if !has {
		return nil, errs.Invalid("currency", "no token with this id is known here; "+errs.Given(text))
	}
	return &t, nil
}

// convertedToProto returns a quote in the currency of a rate.
func convertedToProto(q price.Quote, r price.Rate) *walletv1.Price {
	p := quoteToProto(q)
	if q.Reason != "" {
		return p
	}
	if r.Reason != "" {
		return &walletv1.Price{TokenId: q.TokenID, UnpricedReason: string(r.Reason)}
	}
	value, ok := q.In(r)
	if !ok {
		return &walletv1.Price{TokenId: q.TokenID, UnpricedReason: string(price.OutOfRange)}
	}
	p.Price, p.Currency = value, r.Currency
	p.Rate = &walletv1.Rate{Price: r.Value, Source: r.Source, RateTime: timestamppb.New(r.At)}
	return p
}

// ImportPrices implements the RPC.
func (s *PriceServer) ImportPrices(ctx context.Context,
	req *walletv1.ImportPricesRequest) (*walletv1.ImportPricesResponse, error) {
	id, err := requests.ID(req)
	if err != nil {
		return nil, err
	}
	if id == uuid.Nil {
		return nil, errs.Invalid("request_id", "must be set: make a random UUID")
	}
	rows := make([]priceimport.Given, len(req.GetPrices()))
	fields := []string{strconv.FormatBool(req.GetReplace())}
	for i, p := range req.GetPrices() {
		at := p.GetPriceTime()
		rows[i] = priceimport.Given{TokenID: p.GetTokenId(), Price: p.GetPrice()}
		if at != nil && at.CheckValid() == nil {
			rows[i].At, rows[i].AtSet = at.AsTime(), true
		}
		fields = append(fields, p.GetTokenId(), p.GetPrice(), fmt.Sprint(at != nil, at.GetSeconds(), at.GetNanos()))
	}
	result, err := s.imports.Import(ctx, authn.CallerFrom(ctx).UserID,
		*requests.New(id, "ImportPrices", fields...), rows, req.GetReplace())
	if err != nil {
		return nil, err
	}
	resp := &walletv1.ImportPricesResponse{ImportedCount: int32(result.Imported),
		UnchangedCount: int32(result.Unchanged)}
	for _, f := range result.Failures {
		resp.Failures = append(resp.Failures, priceFailure(f, rows[f.Number]))
	}
	return resp, nil
}

// priceFailure says what is wrong with a row.
func priceFailure(f priceimport.Failure, given priceimport.Given) *walletv1.ImportFailure {
	field, value := "token_id", errs.Given(given.TokenID)
	switch f.Reason {
	case priceimport.InvalidPrice, priceimport.PriceExists:
		field, value = "price", errs.Given(given.Price)
	case priceimport.InvalidTime:
		field, value = "price_time", "got none"
		if given.AtSet {
			value = "got " + given.At.UTC().Format(time.RFC3339Nano)
		}
	}
	return &walletv1.ImportFailure{Row: int32(f.Number) + 1, Field: field, Given: value, Rule: f.Rule,
		Reason: string(f.Reason)}
}

// pricedID returns the id of a token or currency as it is stored.
func pricedID(field, text string) (string, error) {
	if price.IsCurrency(text) {
		return text, nil
	}
	asset, err := caip.ParseAsset(text)
	if err != nil {
		return "", errs.Invalid(field, err.Error())
	}
	return asset.String(), nil
}

// currencyID is pricedID of the field currency, with a rule that names the currencies.
func currencyID(text string) (string, error) {
	id, err := pricedID("currency", text)
	if err != nil {
		return "", errs.Invalid("currency", "must be USD, EUR, GBP, CHF or JPY, or the CAIP-19 id of a token, for "+
			`example "eip155:1/slip44:60"; `+errs.Given(text))
	}
	return id, nil
}

// pricedIDs is pricedID of the field token_ids. The error has every one that is wrong, as
// far as an error reports them.
func pricedIDs(texts []string) ([]string, error) {
	ids := make([]string, len(texts))
	var wrong []error
	for i, text := range texts {
		var err error
		if ids[i], err = pricedID(fmt.Sprintf("token_ids[%d]", i), text); err != nil {
			wrong = append(wrong, err)
		}
	}
	return ids, errs.AllInvalid(wrong...)
}

// checkCurrency is the part of currency that needs no database.
func checkCurrency(text string) error {
	if text == "" || text == price.USD {
		return nil
	}
	_, err := currencyID(text)
	return err
}

// checkPriceHistory is the part of ListPriceHistory that needs no database.
func checkPriceHistory(r *walletv1.ListPriceHistoryRequest) error {
	_, err := pricedID("token_id", r.GetTokenId())
	found := []error{err, checkCurrency(r.GetCurrency())}
	if r.GetStartTime() != nil && r.GetEndTime() != nil { // or the contract says so
		_, _, err := historyHours(r.GetStartTime(), r.GetEndTime(), time.Now())
		found = append(found, err)
	}
	return errs.AllInvalid(found...)
}
