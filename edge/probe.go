package edge

import (
	"io"
	"net/http"
)

// probe answers a load balancer's probe on the device address, and reports
// whether the request was one. It answers with one word and no reason, since
// anybody may ask; the admin address tells the reason.
func (s *Server) probe(w http.ResponseWriter, r *http.Request) bool {
	word, status := "ok", http.StatusOK
	switch r.URL.Path {
	case "/healthz":
	case "/readyz":
		word = "ready"
		if s.Draining() || s.opts.Ready != nil && s.opts.Ready() != nil {
			word, status = "unavailable", http.StatusServiceUnavailable
		}
	default:
		return false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		word, status = "GET only", http.StatusMethodNotAllowed
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, word+"\n")
	return true
}
