package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
)

func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	service := p.service("billing", auth.ServiceOptions{})
	device, err := p.n.Keys().IssueDevice(addr("alice", "phone"), auth.DeviceOptions{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	noBearer, err := p.n.Keys().IssueService("billing", auth.ServiceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		h          http.Header
		status     int
		code       string
	}{
		{"nobody", "/v1/users", nil, 401, "UNAUTHORIZED"},
		{"the operator", "/v1/users", p.operator(), 200, ""},
		{"the operator of a tenant", "/v1/users?tenant=default", p.operator(), 200, ""},
		{"the operator of no tenant", "/v1/users?tenant=nope", p.operator(), 404, "NOT_FOUND"},
		{"a service", "/v1/users", service, 200, ""},
		{"a service by its tenant's name", "/v1/users?tenant=default", service, 200, ""},
		{"a service in another tenant", "/v1/users?tenant=other", service, 403, "PERMISSION_DENIED"},
		{"a service at an operator's row", "/v1/status", service, 403, "PERMISSION_DENIED"},
		{"a device", "/v1/users", header("Authorization", "Bearer "+device.JWT), 401, "UNAUTHORIZED"},
		{"a service's token that needs a signature", "/v1/users", header("Authorization", "Bearer "+noBearer.JWT), 401, "UNAUTHORIZED"},
		{"a wrong token", "/v1/users", header("Authorization", "Bearer "+operatorToken+"x"), 401, "UNAUTHORIZED"},
		{"another scheme", "/v1/users", header("Authorization", "Basic "+operatorToken), 401, "UNAUTHORIZED"},
		{"a scheme in other letters", "/v1/users", header("Authorization", "bearer "+operatorToken), 200, ""},
		{"the operator behind a proxy", "/v1/users", header("Authorization", "Bearer "+operatorToken, "X-Forwarded-For", "203.0.113.9", "Host", "rccs.example.com"), 200, ""},
	} {
		got := p.do("GET", c.path, "", c.h)
		if got.status != c.status || got.code() != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, got.status, got.body, c.status, c.code)
		}
		if c.status == 401 && got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", c.name)
		}
	}
	if got := p.do("POST", "/v1/users/alice/devices/phone/token", `{}`, service); got.status != http.StatusForbidden || got.code() != "PERMISSION_DENIED" {
		t.Errorf("a service without the right issues: %d %s", got.status, got.body)
	}
}

func TestOnLoopbackWithoutATokenAPersonIsTheOperator(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	host := strings.TrimPrefix(p.base, "http://")
	for _, c := range []struct {
		h      http.Header
		status int
		code   string
	}{
		{nil, 200, ""},
		{header("Host", "localhost:1"), 200, ""},
		{header("Sec-Fetch-Site", "same-origin", "Origin", "http://"+host), 200, ""},
		{header("Host", "evil.example"), 421, "MISDIRECTED"},
		{header("Sec-Fetch-Site", "cross-site"), 403, "PERMISSION_DENIED"},
		{header("Origin", "https://evil.example"), 403, "PERMISSION_DENIED"},
		{header("X-Forwarded-For", "203.0.113.9"), 401, "UNAUTHORIZED"},
		{header("Forwarded", "for=203.0.113.9"), 401, "UNAUTHORIZED"},
	} {
		for _, path := range []string{"/v1/status", "/v1/openapi.json"} {
			if got := p.do("GET", path, "", c.h); got.status != c.status || got.code() != c.code {
				t.Errorf("%s, %v: %d %s, want %d %s", path, c.h, got.status, got.body, c.status, c.code)
			}
		}
	}
	if got := p.do("GET", "/v1/nothing", "", header("Host", "evil.example")); got.status != http.StatusMisdirectedRequest {
		t.Errorf("a path that is not there: %d %s", got.status, got.body)
	}
	if got := p.do("GET", "/v1/users", "", p.service("billing", auth.ServiceOptions{})); got.status != http.StatusOK {
		t.Errorf("a service: %d %s", got.status, got.body)
	}
}

func TestSessionOfTheConsole(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	if got := p.post("/v1/session", `{"token":"wrong-token-of-nobody"}`); got.status != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d %s", got.status, got.body)
	}
	got := p.post("/v1/session", `{"token":"`+operatorToken+`"}`)
	cookie := got.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q has no %s", cookie, want)
		}
	}
	if got.status != http.StatusNoContent || strings.Contains(cookie, operatorToken) || strings.Contains(cookie, "Secure") {
		t.Fatalf("%d, %q", got.status, cookie)
	}
	value, _, _ := strings.Cut(cookie, ";")
	same := header("Cookie", value, "Sec-Fetch-Site", "same-origin")
	for _, c := range []struct {
		h      http.Header
		status int
	}{
		{same, 200},
		{header("Cookie", value, "Origin", p.base), 200},
		{header("Cookie", value), 401},
		{header("Cookie", value, "Sec-Fetch-Site", "same-site"), 401},
		{header("Cookie", value, "Origin", "https://evil.example"), 401},
		{header("Cookie", "rccs_session=guess", "Sec-Fetch-Site", "same-origin"), 401},
	} {
		if got := p.do("GET", "/v1/status", "", c.h); got.status != c.status {
			t.Errorf("%v: %d, want %d", c.h, got.status, c.status)
		}
	}
	for _, want := range []int{204, 404} {
		if got := p.do("DELETE", "/v1/session", "", same); got.status != want {
			t.Errorf("ended: %d, want %d", got.status, want)
		}
	}
	if got := p.do("GET", "/v1/status", "", same); got.status != http.StatusUnauthorized {
		t.Errorf("afterwards: %d", got.status)
	}
}

func TestAPIListenServesTheRowsOfServicesToWhoHasAToken(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	service := p.service("billing", auth.ServiceOptions{})
	for _, c := range []struct {
		method, path string
		h            http.Header
		status       int
	}{
		{"GET", "/v1/users", nil, 401},
		{"GET", "/v1/users", service, 200},
		{"GET", "/v1/openapi.json", nil, 200},
		{"GET", "/v1/status", service, 404},
		{"POST", "/v1/session", service, 404},
		{"DELETE", "/v1/users/a/devices/b", service, 405},
		{"GET", "/metrics", service, 404},
		{"GET", "/console/", service, 404},
	} {
		if got := p.do(c.method, p.api+c.path, "", c.h); got.status != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, got.status, got.body, c.status)
		}
	}
}

func TestServiceReachesItsOwnTenant(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.addTenant(`{"name":"acme","limits":{"devices":10}}`)
	if got := p.post("/v1/tenants", `{"name":"acme"}`); got.status != http.StatusConflict || got.code() != "CONFLICT" {
		t.Errorf("added again: %d %s", got.status, got.body)
	}
	acme, err := p.n.Keys().Tenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	cred, err := acme.IssueService("billing", auth.ServiceOptions{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	p.connect("alice/phone", "")
	h := header("Authorization", "Bearer "+cred.JWT)
	if got := p.do("GET", "/v1/users", "", h); strings.TrimSpace(string(got.body)) != `{"items":[]}` {
		t.Errorf("in acme there are %s", got.body)
	}
	if got := p.do("POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"x","payload":1}`, h); got.status != http.StatusNotFound {
		t.Errorf("sent over the border: %d %s", got.status, got.body)
	}
	if got := p.get("/v1/tenants"); !strings.Contains(string(got.body), `"name":"acme"`) || !strings.Contains(string(got.body), `"served":true`) {
		t.Errorf("tenants are %s", got.body)
	}
	for path, want := range map[string]int{
		"/v1/tenants/acme": 400, "/v1/tenants/acme?confirm=other": 400, "/v1/tenants/none?confirm=none": 404, "/v1/tenants/default?confirm=default": 409,
	} {
		if got := p.delete(path); got.status != want {
			t.Errorf("DELETE %s: %d %s, want %d", path, got.status, got.body, want)
		}
	}
	if got := p.delete("/v1/tenants/acme?confirm=acme"); got.status != http.StatusNoContent {
		t.Errorf("removed: %d %s", got.status, got.body)
	}
	if got := p.do("GET", "/v1/users", "", h); got.status != http.StatusUnauthorized {
		t.Errorf("a service of a removed tenant: %d %s", got.status, got.body)
	}
}
