package gains

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Options are what a request asks for.
type Options struct {
	Rules
	ZoneName string // that of the view when empty
	Currency string
	// Same are tokens that count as one; the first of each names the asset.
	Same [][]string

	assets Assets
}

// Check returns errs.Invalid with every mistake.
func (o Options) Check() error {
	_, err := o.withDefaults()
	return err
}

var zones = map[View]string{0: "UTC", UK: "Europe/London", US: "America/New_York", Canada: "America/Toronto"}

func (o Options) withDefaults() (Options, error) {
	var methodErr, walletErr, zoneErr, sameErr, washErr error
	switch m := o.Method; {
	case (o.View == UK || o.View == Canada) && m != 0:
		methodErr = errs.Invalid("options.method",
			"must be unset with this view, whose rules say which lots are taken")
	case o.View == US && m == lots.Average:
		methodErr = errs.Invalid("options.method", "must be FIFO, LIFO, HIFO or SPECIFIC with the view of the United "+
			"States, got AVERAGE")
	}
	if o.Method == 0 && (o.View == 0 || o.View == US) {
		o.Method = lots.FIFO
	}
	if o.PerWallet && o.View != 0 {
		walletErr = errs.Invalid("options.per_wallet", "must be unset with a view, whose rules say it")
	}
	if o.View != US && (o.WashSales || len(o.Securities) > 0) {
		field := "options.wash_sales"
		if !o.WashSales {
			field = "options.security_token_ids"
		}
		washErr = errs.Invalid(field, "must be unset but with the view of the United States")
	}
	o.ZoneName = cmp.Or(o.ZoneName, zones[o.View])
	var err error
	if o.Zone, err = time.LoadLocation(o.ZoneName); err != nil || o.ZoneName == "Local" {
		zoneErr = errs.Invalid("options.time_zone", `must be an IANA time zone, for example "Europe/Zurich", `+
			errs.Given(o.ZoneName))
	}
	o.Currency = cmp.Or(o.Currency, valuation.Currency)
	o.assets, sameErr = assetsOf(o.Same)
	return o, errs.AllInvalid(methodErr, walletErr, zoneErr, currency.Check("options.currency", o.Currency), sameErr,
		washErr)
}

func assetsOf(same [][]string) (Assets, error) {
	assets := Assets{}
	for i, tokens := range same {
		for _, t := range tokens {
			field := fmt.Sprintf("options.same_assets[%d].token_ids", i)
			if !currency.IsTokenID(t) {
				return nil, errs.Invalid(field, "must be CAIP-19 ids, "+errs.Given(t))
			}
			if _, has := assets[t]; has {
				return nil, errs.Invalid(field, "must have each token once in all, "+errs.Given(t)+" again")
			}
			assets[t] = tokens[0]
		}
	}
	return assets, nil
}

// checkDecimals refuses tokens that can't count as one.
func (o Options) checkDecimals(tokens map[string]Token) error {
	for i, same := range o.Same {
		first := ""
		for _, id := range same {
			t, known := tokens[id]
			switch {
			case !known:
			case first == "":
				first = id
			case t.Decimals != tokens[first].Decimals:
				return errs.Invalid(fmt.Sprintf("options.same_assets[%d].token_ids", i),
					fmt.Sprintf("must have the same decimals: %s has %d, %s has %d", first, tokens[first].Decimals, id,
						t.Decimals))
			}
		}
	}
	return nil
}

// byWallet reports whether open lots are of wallets.
func (o Options) byWallet() bool { return o.PerWallet || o.View == US }

// key tells options apart, as far as lots depend on them. Values differ by currency too, so that what is kept is of
// one.
func (o Options) key() string {
	var securities []string
	for t := range o.Securities {
		securities = append(securities, t)
	}
	slices.Sort(securities)
	same := make([]string, len(o.Same))
	for i, tokens := range o.Same {
		same[i] = strings.Join(tokens, ",")
	}
	return fmt.Sprintf("%d %d %t %s %s %t %q %q", o.Method, o.View, o.PerWallet, o.ZoneName, o.Currency, o.WashSales,
		securities, same)
}

// Key tells the results of options apart, for page tokens.
func (o Options) Key() string {
	o, _ = o.withDefaults()
	return o.key()
}
