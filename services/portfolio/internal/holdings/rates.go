package holdings

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
)

// pricesPerPage is how many hours of prices are read at a time.
const pricesPerPage = 500

// Rates implements currency.Source. It is safe for concurrent use.
type Rates struct {
	client walletv1.PriceServiceClient
	now    func() time.Time
}

// NewRates reads rates through client, whose connection forwards the token of the context.
func NewRates(c walletv1.PriceServiceClient, now func() time.Time) *Rates {
	return &Rates{client: c, now: now}
}

// Now implements currency.Source.
func (r *Rates) Now(ctx context.Context, code string) (currency.Rate, error) {
	resp, err := r.client.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: []string{code}})
	if err != nil {
		return currency.Rate{}, rateError(code, err)
	}
	if n := len(resp.GetPrices()); n != 1 {
		return currency.Rate{}, errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service returned no price")
	}
	rate := rateFromProto(code, resp.GetPrices()[0])
	if rate.Reason == "UNKNOWN_TOKEN" {
		return rate, unknownCurrency(code)
	}
	return rate, nil
}

// Hours implements currency.Source.
func (r *Rates) Hours(ctx context.Context, code string, from, until time.Time,
	visit func([]currency.HourRate) error) error {
	if now := r.now(); until.After(now) { // hours that begin before now
		until = now
	}
	list := func(req *walletv1.ListPriceHistoryRequest) (*walletv1.ListPriceHistoryResponse, error) {
		resp, err := r.client.ListPriceHistory(ctx, req)
		if err != nil {
			err = rateError(code, err)
		}
		return resp, err
	}
	return eachPricePage(list, code, from, until, func(page []*walletv1.HistoricalPrice) error {
		rates := make([]currency.HourRate, 0, len(page))
		for _, p := range page {
			rate := rateFromProto(code, p.GetPrice())
			if rate.Reason == "SOURCE_UNAVAILABLE" {
				continue
			}
			rates = append(rates, currency.HourRate{Hour: p.GetHourTime().AsTime(), Rate: rate})
		}
		return visit(rates)
	})
}

// eachPricePage calls visit with the prices of a token at the starts of the hours in a range, in order, page by page
// as list returns them.
func eachPricePage(list func(*walletv1.ListPriceHistoryRequest) (*walletv1.ListPriceHistoryResponse, error),
	tokenID string, from, until time.Time, visit func([]*walletv1.HistoricalPrice) error) error {
	req := &walletv1.ListPriceHistoryRequest{TokenId: tokenID, StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until), PageSize: pricesPerPage}
	for {
		resp, err := list(req)
		if err != nil {
			return err
		}
		if err := visit(resp.GetPrices()); err != nil {
			return err
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return nil
		}
	}
}

// rateError says that a currency isn't known where the wallet service says that of a token.
func rateError(code string, err error) error {
	if errs.Is(err, errs.KindNotFound) || errs.Is(err, errs.KindInvalid) {
		return unknownCurrency(code)
	}
	return unavailable(err)
}

func unknownCurrency(code string) error {
	return errs.Invalid("currency", currency.Rule+"; no token with this id is known, "+errs.Given(code))
}

func rateFromProto(code string, p *walletv1.Price) currency.Rate {
	rate := currency.Rate{Currency: code, Price: p.GetPrice(), Source: p.GetSource(), Stale: p.GetStale(),
		Reason: p.GetUnpricedReason()}
	if p.GetPriceTime() != nil {
		rate.Time = p.GetPriceTime().AsTime()
	}
	return rate
}
