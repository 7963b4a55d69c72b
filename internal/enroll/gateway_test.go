package enroll_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/wire"
)

// door is one that web pages of one origin may not use.
type door struct{}

func (door) AllowsOrigin(r *http.Request) bool {
	return r.Header.Get("Origin") != "https://evil.example"
}

func (door) From(r *http.Request) string {
	if from := r.Header.Get("Test-From"); from != "" {
		return from
	}
	return "192.0.2.1"
}

// front is a gateway, and a coordinator in whose place answer answers.
func front(t *testing.T, answer func(m *nats.Msg)) http.Handler {
	t.Helper()
	nc := natstest.Server(t).Conn(t)
	if answer != nil {
		_, err := nc.Subscribe(layout.PartEndpoint("*"), answer)
		check(t, err)
		check(t, nc.Flush())
	}
	return enroll.NewGateway(func(string) (*nats.Conn, bool) { return nc, true }, door{}, nil)
}

func ask(h http.Handler, method, path string, body io.Reader) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, body))
	return w
}

func told(t *testing.T, w *httptest.ResponseRecorder, status int, code wire.Code) {
	t.Helper()
	var e struct{ Code, Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("status %d, %q: %v", w.Code, w.Body, err)
	}
	if w.Code != status || e.Code != string(code) || e.Message == "" {
		t.Errorf("status %d, %+v; want %d, %s", w.Code, e, status, code)
	}
}

func TestAGatewayPassesOnAndTellsWhatIsAnswered(t *testing.T) {
	t.Parallel()
	h := front(t, func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"jwt":"` + m.Subject + ` ` + string(m.Data) + ` ` + m.Header.Get(enroll.HeaderFrom) + `"}`))
	})
	for path, want := range map[string]string{
		"/v1/enroll": "rccs.coordinator.part.enroll hello 192.0.2.1", "/v1/renew": "rccs.coordinator.part.renew hello 192.0.2.1",
	} {
		w := ask(h, http.MethodPost, path, strings.NewReader("hello"))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d, %s", path, w.Code, w.Body)
		}
	}
}

func TestAGatewayTellsWhenToComeAgain(t *testing.T) {
	t.Parallel()
	h := front(t, func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{
			Data:   []byte(`{"code":"RATE_LIMITED","message":"wait"}`),
			Header: nats.Header{"Nats-Service-Error-Code": {"429"}, "Nats-Service-Error": {"wait"}, enroll.HeaderRetryAfter: {"7"}},
		})
	})
	w := ask(h, http.MethodPost, "/v1/enroll", strings.NewReader("{}"))
	told(t, w, http.StatusTooManyRequests, wire.RateLimited)
	if w.Header().Get("Retry-After") != "7" {
		t.Errorf("headers %v", w.Header())
	}
}

func TestAGatewayRefusesWhatItNeedNotPassOn(t *testing.T) {
	t.Parallel()
	h := front(t, nil)
	told(t, ask(h, http.MethodPost, "/v1/enroll", bytes.NewReader(make([]byte, wire.MaxEnrollment+1))), http.StatusRequestEntityTooLarge, wire.MessageTooLarge)
	told(t, ask(h, http.MethodGet, "/v1/enroll", nil), http.StatusMethodNotAllowed, wire.BadMessage)
	told(t, ask(h, http.MethodPost, "/v1/renew", strings.NewReader("{}")), http.StatusServiceUnavailable, wire.Unavailable) // nobody there
	from := func(origin string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(http.MethodOptions, "/v1/enroll", nil), httptest.NewRecorder()
		r.Header.Set("Origin", origin)
		h.ServeHTTP(w, r)
		return w
	}
	if w := from("https://good.example"); w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "https://good.example" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	w := from("https://evil.example")
	told(t, w, http.StatusForbidden, wire.PermissionDenied)
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("the page may read the answer: %q", got)
	}
	if w := ask(h, http.MethodPost, "/v1/other", nil); w.Code != http.StatusNotFound {
		t.Errorf("status %d", w.Code)
	}
}

// What is refused of one address shares one bound, whichever way it was asked for
// and whether or not the tenant exists; it is looked at before all else.
func TestAGatewayBoundsWhatItRefusesOfAnAddress(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 100)
	h := front(t, func(m *nats.Msg) {
		asked <- m.Subject
		_ = m.RespondMsg(&nats.Msg{Data: []byte(`{"code":"AUTH_ERROR","message":"no"}`), Header: nats.Header{"Nats-Service-Error-Code": {"401"}}})
	})
	for i := range 10 {
		path := []string{"/v1/enroll", "/v1/renew"}[i%2]
		told(t, ask(h, http.MethodPost, path, strings.NewReader("{}")), http.StatusUnauthorized, wire.AuthError)
	}
	for _, path := range []string{"/v1/enroll", "/v1/renew"} {
		w := ask(h, http.MethodPost, path, strings.NewReader("{}"))
		told(t, w, http.StatusTooManyRequests, wire.RateLimited)
		if w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "too many wrong claims came from this address") {
			t.Errorf("headers %v, and %s", w.Header(), w.Body)
		}
	}
	if len(asked) != 10 {
		t.Errorf("%d requests were passed on", len(asked))
	}
}

// A key that renews again and again uses up the bound of its address, though each
// renewal is right. Many devices behind one address renew as they need.
func TestRightRenewalsOfOneKeyAreBounded(t *testing.T) {
	t.Parallel()
	h := front(t, func(m *nats.Msg) { _ = m.Respond([]byte(`{"jwt":"x"}`)) })
	p := newPlace(t)
	said := ""
	renew := func(d *device) int {
		w := ask(h, http.MethodPost, "/v1/renew", bytes.NewReader(d.signed(wire.PurposeRenew, wire.Enrollment{User: "alice", Device: "phone"})))
		said = w.Body.String()
		return w.Code
	}
	for i := range 40 {
		if code := renew(p.device()); code != http.StatusOK {
			t.Fatalf("device %d: status %d", i, code)
		}
	}
	d, done := p.device(), 0
	for range 40 {
		if renew(d) == http.StatusOK {
			done++
		}
	}
	if done < 3 || done > 15 {
		t.Errorf("%d of 40 renewals of one key were answered", done)
	}
	if !strings.Contains(said, "a key was renewed too often from this address") {
		t.Errorf("it is told %s", said)
	}
}

// Who sends bodies that never end takes the place of nobody else.
func TestBodiesThatDoNotComeKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	h := front(t, func(m *nats.Msg) { _ = m.Respond([]byte(`{}`)) })
	var slow sync.WaitGroup
	body, end := io.Pipe()
	defer slow.Wait()
	defer func() { _ = end.Close() }()
	reading := make(chan struct{}, 300)
	for n := range 300 { // more than are passed on at a time
		slow.Go(func() {
			r := httptest.NewRequest(http.MethodPost, "/v1/enroll", announced{body, reading})
			r.Header.Set("Test-From", fmt.Sprintf("198.51.100.%d", n/9))
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	for range 300 {
		<-reading
	}
	if w := ask(h, http.MethodPost, "/v1/enroll", strings.NewReader("{}")); w.Code != http.StatusOK {
		t.Errorf("another address is answered %d %s", w.Code, w.Body)
	}
}

// announced says when it is read.
type announced struct {
	io.Reader
	reading chan<- struct{}
}

func (a announced) Read(p []byte) (int, error) {
	select {
	case a.reading <- struct{}{}:
	default:
	}
	return a.Reader.Read(p)
}
