package console

import (
	"net/http"
	"slices"
)

// currencyCookie remembers a browser's choice of a currency.
const currencyCookie = "purser_currency"

// currencies are the choices; the first one is shown without a choice.
func currencies() []string { return []string{"USD", "EUR", "GBP", "CHF", "JPY"} }

func currencyOf(r *http.Request) string {
	if c, err := r.Cookie(currencyCookie); err == nil && slices.Contains(currencies(), c.Value) {
		return c.Value
	}
	return currencies()[0]
}

// chooseCurrency sets the cookie and shows the page again.
func (c *Console) chooseCurrency(w http.ResponseWriter, r *http.Request) {
	chosen := r.PostFormValue("currency")
	if !slices.Contains(currencies(), chosen) {
		http.Error(w, "currency: must be one of USD, EUR, GBP, CHF and JPY", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: currencyCookie, Value: chosen, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
