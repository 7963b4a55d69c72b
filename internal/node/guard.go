package node

import "net/http"

// The content security policies. Nothing that the edge answers is a page. The
// index of profiles is one, with its style in it.
const (
	edgePolicy  = "default-src 'none'; frame-ancestors 'none'"
	adminPolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'"
)

// oneYear is how long a browser remembers to use TLS.
const oneYear = "max-age=31536000"

// guarded adds to all answers what tells browsers to make nothing more of them
// than they are.
func guarded(h http.Handler, policy string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Content-Security-Policy", policy)
		if r.TLS != nil {
			header.Set("Strict-Transport-Security", oneYear)
		}
		h.ServeHTTP(w, r)
	})
}
