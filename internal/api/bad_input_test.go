package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/subjects"
)

// row is one row of the API.
type row struct {
	method, path string
	body         string // a good one
}

var rows = []row{
	{"POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","payload":1}`},
	{"GET", "/v1/users/{user}/messages/{id}", ""},
	{"DELETE", "/v1/users/{user}/messages/{id}", ""},
	{"GET", "/v1/users", ""},
	{"GET", "/v1/users/{user}/devices", ""},
	{"GET", "/v1/users/{user}/devices/{device}", ""},
	{"DELETE", "/v1/users/{user}/devices/{device}", ""},
	{"POST", "/v1/users/{user}/devices/{device}/token", `{}`},
	{"POST", "/v1/users/{user}/enrolment-codes", `{}`},
	{"GET", "/v1/users/{user}/devices/{device}/inbox", ""},
	{"POST", "/v1/users/{user}/devices/{device}/replay", `{"missed":true}`},
	{"POST", "/v1/users/{user}/devices/{device}/requests/{method}", `1`},
	{"POST", "/v1/topics/{topic}", `1`},
	{"GET", "/v1/topics/{topic}", ""},
	{"GET", "/v1/events", ""},
	{"GET", "/v1/live", ""},
	{"GET", "/v1/status", ""},
	{"GET", "/v1/edges", ""},
	{"POST", "/v1/edges/{edge}/drain", `{}`},
	{"DELETE", "/v1/edges/{edge}/drain", ""},
	{"GET", "/v1/revocations", ""},
	{"POST", "/v1/revocations", `{"kind":"device","name":"a/b"}`},
	{"DELETE", "/v1/revocations/{kind}/{name}", ""},
	{"DELETE", "/v1/revocations/all", ""},
	{"GET", "/v1/audit", ""},
	{"GET", "/v1/tenants", ""},
	{"POST", "/v1/tenants", `{"name":"new"}`},
	{"DELETE", "/v1/tenants/{name}", ""},
	{"POST", "/v1/session", `{"token":"x"}`},
	{"DELETE", "/v1/session", ""},
}

// fill puts names into a path.
func fill(path string, instead map[string]string) string {
	for name, value := range map[string]string{
		"user": "alice", "device": "phone", "id": "m1", "method": "x", "topic": "t", "edge": "e", "kind": "device", "name": "a%2Fb",
	} {
		if other, ok := instead[name]; ok {
			value = other
		}
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return path
}

// refused is what a problem document has to be.
func refused(t testing.TB, what string, got answer, statuses ...int) {
	t.Helper()
	fits := false
	for _, s := range statuses {
		fits = fits || got.status == s
	}
	var problem struct {
		Title, Code string
		Status      int
	}
	_ = json.Unmarshal(got.body, &problem)
	if !fits || problem.Status != got.status || problem.Code == "" || problem.Title == "" || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %d %s (%s), want one of %v", what, got.status, got.body, got.header.Get("Content-Type"), statuses)
	}
	if (got.status == 429 || got.status == 503) && got.header.Get("Retry-After") == "" {
		t.Errorf("%s: %d without Retry-After", what, got.status)
	}
}

func TestEveryRowRefusesBadInput(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	op := p.operator()
	long := strings.Repeat("x", 600)
	for _, r := range rows {
		path := fill(r.path, nil)
		what := r.method + " " + r.path
		if r.path != "/v1/session" {
			refused(t, what+" without a token", p.do(r.method, path, r.body, nil), 401)
			refused(t, what+" in a tenant that does not exist", p.do(r.method, path+"?tenant=nope", r.body, op), 404)
		}
		for _, name := range inBraces.FindAllString(r.path, -1) {
			name = strings.Trim(name, "{}")
			bad := map[string]int{"": 404, long: 400, "a%00b": 400, "a%FFb": 400, "%ZZ": 400}
			for value, status := range bad {
				if value == "%ZZ" { // no client sends it: net/http does not parse it
					continue
				}
				statuses := []int{status, 400, 404}
				if value == "" {
					statuses = []int{404, 405} // another path
				}
				refused(t, what+" with "+name+" "+value[:min(len(value), 8)], p.do(r.method, fill(r.path, map[string]string{name: value}), r.body, op), statuses...)
			}
			if name == "user" || name == "device" { // twice encoded is another name
				got := p.do(r.method, fill(r.path, map[string]string{name: "al%252Fice"}), "", op)
				if got.status >= 500 && got.code() != "DEVICE_OFFLINE" {
					t.Errorf("%s with %s twice encoded: %d %s", what, name, got.status, got.body)
				}
			}
		}
		if r.method != http.MethodPost {
			continue
		}
		refused(t, what+" of another type", p.do("POST", path, r.body, with(op, "Content-Type", "text/plain")), 415)
		refused(t, what+" of no type", p.do("POST", path, r.body, with(op, "Content-Type", "")), 415)
		refused(t, what+" that is no JSON", p.do("POST", path, `{"a":`, op), 400)
		refused(t, what+" that is too deep", p.do("POST", path, strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), op), 400)
		refused(t, what+" that is not UTF-8", p.do("POST", path, "\"\xff\"", op), 400)
		if r.body[0] == '{' {
			refused(t, what+" with a member that is not known", p.do("POST", path, r.body[:len(r.body)-1]+comma(r.body)+`"unknown":1}`, op), 400)
			if r.path != "/v1/messages" { // which answers each element of a list
				refused(t, what+" that is a list of numbers", p.do("POST", path, `[1]`, op), 400)
			}
			refused(t, what+" that is a number", p.do("POST", path, `1`, op), 400)
		}
	}
	huge := `"` + strings.Repeat("x", 33<<20) + `"`
	refused(t, "a body over 32 MiB", p.do("POST", "/v1/topics/t", huge, op), 413)
	refused(t, "a message over the limit", p.do("POST", "/v1/topics/t", huge[:2<<20]+`"`, op), 413)
	for path, status := range map[string]int{
		"/v1/users?limit=x": 400, "/v1/users?limit=-1": 400, "/v1/users?limit=0": 400, "/v1/users?limit=99999": 200, "/v1/users?limit=": 200,
		"/v1/users?after=%21": 400, "/v1/users?status=asleep": 400, "/v1/users?status=offline&type=x&q=y": 200,
		"/v1/users/a%2Fb/devices": 400, "/v1/users/alice/devices?limit=1.5": 400,
		"/v1/users/alice/devices/phone/inbox?state=read": 400, "/v1/users/alice/devices/phone/inbox?fromSeq=-1": 400,
		"/v1/events?after=x": 400, "/v1/events?after=-1": 400, "/v1/events?after=99999999999999999999": 400, "/v1/events?kind=a.b": 400, "/v1/events?kind=%3E": 400, "/v1/events?user=%00": 400,
		"/v1/live?tail=%2F": 400, "/v1/live?history=maybe": 400,
		"/v1/audit?since=yesterday": 400, "/v1/audit?since=-1h": 400, "/v1/audit?since=1h": 200, "/v1/audit?since=30d": 200, "/v1/audit?since=2026-01-01T00:00:00Z": 200, "/v1/audit?since=2026-01-01T0:00:00Z": 400,
		"/v1/topics/a..b": 400, "/v1/topics/t?from=x": 400, "/v1/nothing": 404, "/v1": 404, "/v1/": 404, "/v1//users": 404, "/v1/users/": 404,
	} {
		got := p.do("GET", path, "", op)
		if status == http.StatusOK {
			if got.status != status {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
			continue
		}
		refused(t, path, got, status)
	}
	for body, code := range map[string]string{
		`{"type":"note","payload":1}`:                                                      "BAD_MESSAGE",
		`{"to":{"device":"phone"},"type":"note","payload":1}`:                              "BAD_MESSAGE",
		`{"to":{"user":"a","device":"b","capability":"c"},"type":"note","payload":1}`:      "BAD_MESSAGE",
		`{"to":{"user":"a","deviceId":"b"},"type":"note","payload":1}`:                     "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"Note","payload":1}`:                                    "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"ack","payload":1}`:                                     "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note"}`:                                                "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"id":""}`:                            "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"id":"\ud83d"}`:                      "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"priority":4}`:                       "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"priority":"urgent"}`:                "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"ttlMs":0}`:                          "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"deliverAt":"tomorrow"}`:             "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":1,"ephemeral":1}`:                      "BAD_MESSAGE",
		`{"to":{"user":"a","mode":"some"},"type":"note","payload":1}`:                      "BAD_MESSAGE",
		`{"to":{"user":"a"},"Type":"note","payload":1}`:                                    "BAD_MESSAGE",
		`{"to":{"user":"a"},"type":"note","payload":"` + strings.Repeat("x", 2<<20) + `"}`: "MESSAGE_TOO_LARGE",
	} {
		got := p.do("POST", "/v1/messages", body, op)
		if got.code() != code {
			t.Errorf("%.80s: %d %s, want %s", body, got.status, got.body, code)
		}
	}
}

func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	if value == "" {
		h[name] = nil
	} else {
		h.Set(name, value)
	}
	return h
}

func comma(body string) string {
	if body == "{}" {
		return ""
	}
	return ","
}

// A parameter that is mistyped would change the answer, and nobody would notice.
func TestAParameterThatARowDoesNotHaveIsRefusedByName(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	for _, r := range rows {
		got := p.do(r.method, fill(r.path, nil)+"?limti=5", r.body, p.operator())
		refused(t, r.method+" "+r.path, got, 400)
		if !strings.Contains(string(got.body), `\"limti\"`) {
			t.Errorf("%s %s?limti=5: %s does not name it", r.method, r.path, got.body)
		}
	}
	for path, want := range map[string]string{
		"/v1/users?Limit=5": "after, limit, q, status, tenant, type",
		"/v1/live?tails=":   "history, payload, tail, tenant",
		"/v1/status?q=1":    "want tenant",
		// A name in the path is none in the query.
		"/v1/users/alice/devices?user=bob": "after, limit, q, status, tenant, type",
	} {
		if got := p.do("GET", path, "", p.operator()); got.status != 400 || !strings.Contains(string(got.body), want) {
			t.Errorf("%s: %d %s, want 400 and %q", path, got.status, got.body, want)
		}
	}
}

// A filter that can fit nothing is a mistake that its author should hear of, not a
// stream or a list that stays empty.
func TestFilterOfAClosedSetNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	for path, words := range map[string][]string{
		"/v1/events?kind=":                           subjects.EventKinds(),
		"/v1/events?kind=online,":                    subjects.EventKinds(),
		"/v1/audit?action=":                          audit.Actions(),
		"/v1/devices?status=":                        {"online", "away", "busy", "offline"},
		"/v1/users/alice/devices/phone/inbox?state=": {"unacknowledged", "rejected", "all"},
		"/v1/users?status=":                          {"online", "away", "busy", "offline"},
		"/v1/users/alice/devices?status=":            {"online", "away", "busy", "offline"},
	} {
		got := p.get(path + "nope")
		if got.status != http.StatusBadRequest || got.code() != "BAD_MESSAGE" {
			t.Errorf("%snope: %d %s", path, got.status, got.body)
		}
		for _, word := range words {
			if !strings.Contains(string(got.body), word) {
				t.Errorf("%snope: %s does not name %q", path, got.body, word)
			}
		}
	}
	for _, kind := range subjects.EventKinds() {
		if got := p.do("HEAD", "/v1/events?kind="+kind, "", nil); got.status != http.StatusOK {
			t.Errorf("kind %s: %d", kind, got.status)
		}
	}
	for _, action := range audit.Actions() {
		if got := p.get("/v1/audit?action=" + action); got.status != http.StatusOK {
			t.Errorf("action %s: %d %s", action, got.status, got.body)
		}
	}
}
