package console

import (
	"net"
	"net/http"
)

// maxForm bounds the body of a form.
const maxForm = 8 << 10

// guarded refuses what doesn't come from this machine's own page:
//
//   - a Host header other than this server's own addresses, such as the name of another web page that resolves to it
//     (DNS rebinding)
//   - a form that another page sends, also one of another port of this machine, by Sec-Fetch-Site and Origin
//   - every method but GET, HEAD and POST
func guarded(self net.Addr, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(self.String())
	own := map[string]bool{self.String(): true, net.JoinHostPort("127.0.0.1", port): true,
		net.JoinHostPort("localhost", port): true}
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors "+
			"'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "same-origin") // with no-referrer, browsers send "Origin: null" with the forms
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "private, no-cache")
		switch {
		case !own[r.Host]:
			http.Error(w, "the console answers at http://"+self.String()+"/", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
			h.Set("Allow", "GET, HEAD, POST")
			http.Error(w, "the console answers GET, HEAD and POST", http.StatusMethodNotAllowed)
		case crossOrigin.Check(r) != nil:
			http.Error(w, "the form was sent by another page: open http://"+self.String()+"/ and send it from there",
				http.StatusForbidden)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			next.ServeHTTP(w, r)
		}
	})
}
