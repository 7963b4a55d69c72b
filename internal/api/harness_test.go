package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestMain(m *testing.M) {
	if data := os.Getenv(benchChild); data != "" {
		if err := serveForBench(data); err != nil {
			fmt.Fprintln(os.Stderr, err) // whoever waits for its addresses sees its end
		}
		return
	}
	natstest.VerifyTestMain(m)
}

const operatorToken = "an-operators-token-of-a-test"

// place is a running installation.
type place struct {
	t     testing.TB
	n     *node.Node
	base  string
	api   string // --api-listen
	token bool
	http  *http.Client
}

// serve starts one; with a token, the admin address asks for it.
func serve(t testing.TB, token bool) *place {
	t.Helper()
	dir := t.TempDir()
	opts := node.Options{Data: dir, NATSListen: nodetest.AnyPort, AdminListen: nodetest.AnyPort, APIListen: nodetest.AnyPort}
	if token {
		opts.Transport.AdminTokenFile = filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(opts.Transport.AdminTokenFile, []byte(operatorToken), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := nodetest.Start(t, opts)
	p := &place{t: t, n: n, token: token, base: "http://" + n.AdminAddr().String(), api: "http://" + n.APIAddr().String(), http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(p.http.CloseIdleConnections)
	return p
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

// code is that of a problem.
func (a answer) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal(a.body, &p)
	return p.Code
}

func header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// do asks for something. A body that is not "" is JSON unless the headers say
// otherwise.
func (p *place) do(method, target, body string, h http.Header) answer {
	p.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = p.base + target
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	maps.Copy(r.Header, h)
	if host := h.Get("Host"); host != "" {
		r.Host = host
	}
	if _, given := h["Content-Type"]; body != "" && !given {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if method == http.MethodGet && resp.Header.Get("Content-Type") == "text/event-stream" {
		return answer{resp.StatusCode, resp.Header, nil} // it does not end
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, text}
}

func (p *place) get(path string) answer { p.t.Helper(); return p.do(http.MethodGet, path, "", nil) }

func (p *place) post(path, body string) answer {
	p.t.Helper()
	return p.do(http.MethodPost, path, body, nil)
}

func (p *place) delete(path string) answer {
	p.t.Helper()
	return p.do(http.MethodDelete, path, "", nil)
}

// service is the header of a service's token.
func (p *place) service(name string, opts auth.ServiceOptions) http.Header {
	p.t.Helper()
	opts.Bearer = true
	cred, err := p.n.Keys().IssueService(name, opts)
	if err != nil {
		p.t.Fatal(err)
	}
	return header("Authorization", "Bearer "+cred.JWT)
}

// connect registers a device; extra is of the payload, such as `,"type":"mobile"`. It
// returns when the API knows of it, too: what the edge has stored it reads by itself.
func (p *place) connect(name, extra string) *devicetest.Device {
	p.t.Helper()
	d := register(p.t, p.n.Addr().String(), nodetest.Token(p.t, p.n, name), extra)
	p.eventually(name+" is connected", func() bool {
		status := p.status(name)
		return status != "" && status != "offline"
	})
	return d
}

// status is what the API says of a device; "" where it does not know it.
func (p *place) status(name string) string {
	p.t.Helper()
	user, dev, _ := strings.Cut(name, "/")
	var got struct{ Status string }
	encoded := func(name string) string { return strings.ReplaceAll(url.PathEscape(name), ".", "%2E") } // dots alone are a name
	_ = json.Unmarshal(p.do(http.MethodGet, "/v1/users/"+encoded(user)+"/devices/"+encoded(dev), "", p.operator()).body, &got)
	return got.Status
}

// register connects with a token.
func register(t testing.TB, address, token, extra string) *devicetest.Device {
	t.Helper()
	return nodetest.Register(t, address, nodetest.Registering{Token: token, Extra: extra})
}

// addTenant adds one, and returns the answer. Where a part of the server does not
// answer in time that is 503, which says to come again: the tenant may be there then.
func (p *place) addTenant(body string) (got answer) {
	p.t.Helper()
	late := false
	p.eventually("a tenant is added", func() bool {
		got = p.do(http.MethodPost, "/v1/tenants", body, p.operator())
		if got.status == http.StatusServiceUnavailable {
			late = true
			return false
		}
		return true
	})
	if got.status != http.StatusCreated && (!late || got.status != http.StatusConflict) {
		p.t.Fatalf("added %s: %d %s", body, got.status, got.body)
	}
	return got
}

// visit registers a device and lets it go.
func (p *place) visit(name, extra string) {
	p.t.Helper()
	d := p.connect(name, extra)
	d.Send(`{"type":"device_unregister","id":"bye"}`)
	d.Until("ack")
	_ = d.Close()
	p.eventually(name+" is offline", func() bool { return p.status(name) == "offline" })
}

// operator is the header of the operator's token, where one is needed.
func (p *place) operator() http.Header {
	if !p.token {
		return nil
	}
	return header("Authorization", "Bearer "+operatorToken)
}

// eventually polls a condition.
func (p *place) eventually(what string, ok func() bool) {
	p.t.Helper()
	testkit.Eventually(p.t, what, ok)
}

// nats is a connection with all rights in the tenant's account.
func (p *place) nats() *nats.Conn {
	p.t.Helper()
	cred, err := p.n.Keys().IssuePart("test")
	if err != nil {
		p.t.Fatal(err)
	}
	nc, err := node.Connect(p.n.NATSURL(), cred.Option(), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(testkit.Patience))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(nc.Close)
	return nc
}

func decode(frame []byte) (m map[string]any) {
	_ = json.Unmarshal(frame, &m)
	return m
}
