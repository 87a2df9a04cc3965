package alert

import (
	"fmt"
	"regexp"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// DefaultHysteresis is that of rules whose owner gives none.
const DefaultHysteresis = "0.02"

// Bounds of windows, which the contract states.
const (
	minChangeWindow = time.Hour
	minAge          = time.Minute
	maxWindow       = 90 * 24 * time.Hour
)

// Definition is what an owner says of a rule, as they wrote it.
type Definition struct {
	Name, Limit, Token, Hysteresis string
	Window                         time.Duration
	Disabled                       bool
}

// decimal matches decimal numbers from 0 to below 1e30 with at most 18 decimals.
var decimal = regexp.MustCompile(`^[0-9]{1,30}(\.[0-9]{1,18})?$`)

// Define sets what a rule of r.Kind is defined by: errs.Invalid with every field that is wrong.
func (r *Rule) Define(d Definition) error {
	name, nameErr := portfolio.NewName(d.Name)
	limit, limitErr := limitOf(r.Kind, d.Limit)
	hysteresis, hysteresisErr := hysteresisOf(r.Kind, d.Hysteresis)
	if err := errs.AllInvalid(nameErr, limitErr, checkToken(r.Kind, d.Token), checkWindow(r.Kind, d.Window),
		hysteresisErr); err != nil {
		return err
	}
	r.Name, r.Limit, r.Token, r.Window, r.Hysteresis, r.Disabled = name, limit, d.Token, d.Window, hysteresis,
		d.Disabled
	return nil
}

// Definition is what Define would take to make the rule as it is.
func (r *Rule) Definition() Definition {
	d := Definition{Name: r.Name, Token: r.Token, Window: r.Window, Disabled: r.Disabled}
	if r.Limit != nil {
		d.Limit = r.Limit.Text('f')
	}
	if r.Kind != Transfer && r.Hysteresis != nil {
		d.Hysteresis = r.Hysteresis.Text('f')
	}
	return d
}

func limitOf(k Kind, text string) (*apd.Decimal, error) {
	if !k.HasLimit() {
		return nil, wantEmpty("limit", text, k)
	}
	d, ok := decimalOf(text)
	switch {
	case !ok || d.IsZero():
		return nil, errs.Invalid("limit", `must be a decimal number above 0 and below 1e30 with at most 18 decimals, `+
			`such as "1.5", `+errs.Given(text))
	case k == DrawdownAbove && d.Cmp(apd.New(1, 0)) > 0:
		return nil, errs.Invalid("limit", `of DRAWDOWN_ABOVE must be a fraction of at most 1, "0.1" for 10 %, `+
			errs.Given(text))
	}
	return d, nil
}

func hysteresisOf(k Kind, text string) (*apd.Decimal, error) {
	if k == Transfer {
		return new(apd.Decimal), wantEmpty("hysteresis", text, k)
	}
	if text == "" {
		text = DefaultHysteresis
	}
	d, ok := decimalOf(text)
	if !ok || d.Cmp(apd.New(5, -1)) > 0 {
		return nil, errs.Invalid("hysteresis", `must be a fraction from 0 to 0.5 with at most 18 decimals, "0.02" `+
			"for 2 %, "+errs.Given(text))
	}
	return d, nil
}

func decimalOf(text string) (*apd.Decimal, bool) {
	if !decimal.MatchString(text) {
		return nil, false
	}
	d, _, err := apd.NewFromString(text)
	return d, err == nil
}

func checkToken(k Kind, token string) error {
	if !k.HasToken() {
		return wantEmpty("token_id", token, k)
	}
	if !currency.IsTokenID(token) || len(token) > 160 {
		return errs.Invalid("token_id", fmt.Sprintf("of %s must be a CAIP-19 id, for example %q, %s", k,
			"eip155:1/slip44:60", errs.Given(token)))
	}
	return nil
}

func checkWindow(k Kind, w time.Duration) error {
	if !k.HasWindow() {
		if w == 0 {
			return nil
		}
		return errs.Invalid("window", fmt.Sprintf("must be unset for %s, got %s", k, w))
	}
	minWindow := minAge
	if k == ValueChange {
		minWindow = minChangeWindow
	}
	if w < minWindow || w > maxWindow || w%time.Second != 0 {
		return errs.Invalid("window", fmt.Sprintf("of %s must be whole seconds from %.0f to %.0f, got %s", k,
			minWindow.Seconds(), maxWindow.Seconds(), w))
	}
	return nil
}

func wantEmpty(field, text string, k Kind) error {
	if text == "" {
		return nil
	}
	return errs.Invalid(field, fmt.Sprintf("must be empty for %s, %s", k, errs.Given(text)))
}
