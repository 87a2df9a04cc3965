package console

import (
	"fmt"
	"net/http"

	"github.com/purserhq/purser/pkg/grpcclient"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// serveLive tells an open page each time that the portfolio's value is another, as events of the EventSource protocol.
// An event's id is the cursor of WatchValuation, with which the browser goes on after a connection has ended. While
// nothing can be told the answer is 204, and the page asks for the value again and again.
func (c *Console) serveLive(w http.ResponseWriter, r *http.Request) {
	v := c.viewerOf(r)
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	token, err := v.tokens.Token(r.Context())
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	currency := currencyOf(r)
	ctx := grpcclient.WithToken(withoutTrace(r.Context()), token)
	stream, err := portfoliov1.NewPortfolioServiceClient(c.services.portfolio).WatchValuation(ctx,
		&portfoliov1.WatchValuationRequest{Currency: currency, Cursor: r.Header.Get("Last-Event-ID")})
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	for began := false; ; began = true {
		m, err := stream.Recv()
		if err != nil {
			if !began {
				w.WriteHeader(http.StatusNoContent)
			}
			return
		}
		if !began {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprint(w, "retry: 1000\n\n")
		}
		event := ":\n\n" // a comment, which shows that the connection works
		if m.GetValuation() != nil {
			data, dependency := portfolioOf(m.GetValuation())
			for _, p := range v.sections[currency]["holdings"] {
				p.put(data, dependency)
			}
			event = "event: value\nid: " + m.GetCursor() + "\ndata: changed\n\n"
		}
		if _, err := fmt.Fprint(w, event); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}
