package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
)

// schema is what the test reads of a schema of the document.
type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Properties map[string]schema
	Required   []string
	Enum       []any
	OneOf      []schema
	Minimum    *float64
	Maximum    *float64
	MaxLength  int
	MaxItems   int
	Pattern    string
	Format     string
}

func (s schema) is(kind string) bool {
	list, ok := s.Type.([]any)
	return s.Type == kind || ok && slices.Contains(list, any(kind))
}

// parameter is a parameter of an operation in the document.
type parameter struct {
	Name, In string
	Schema   schema
}

// fullDocument is the document with the schemas of parameters and bodies.
type fullDocument struct {
	Paths map[string]map[string]struct {
		OperationID string
		Parameters  []parameter
		RequestBody *struct {
			Required bool
			Content  map[string]struct{ Schema schema }
		}
	}
	Components struct{ Schemas map[string]schema }
}

func (d *fullDocument) resolve(s schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.resolve(d.Components.Schemas[name])
	}
	if len(s.OneOf) > 0 && s.OneOf[0].Ref != "" {
		return d.resolve(s.OneOf[0])
	}
	return s
}

// query is one request; attempt changes one thing of a good one.
type query struct {
	method, path string // the path is escaped
	values       url.Values
	header       http.Header
	body         string
}

func (q query) with(change func(*query)) query {
	q.values, q.header = maps.Clone(q.values), q.header.Clone()
	change(&q)
	return q
}

func (p *place) ask(q query) answer {
	p.t.Helper()
	h := p.operator()
	maps.Copy(h, q.header)
	target := q.path
	if len(q.values) > 0 {
		target += "?" + q.values.Encode()
	}
	return p.do(q.method, target, q.body, h)
}

// good are requests that do what their operations are for, in an order in which
// each works. BAD in a path is where its parameters are.
var good = []struct{ id, path, query, body string }{
	{"sendMessages", "", "", `{"to":{"user":"alice","device":"phone"},"type":"note","payload":1,"id":"m-good","priority":1,"ttlMs":60000,"deliverAt":"2026-12-01T00:00:00Z","collapseKey":"c","correlationId":"d","ephemeral":false}`},
	{"traceMessage", "user=alice&id=m1", "since=1h", ""},
	{"cancelMessage", "user=alice&id=m-later", "", ""},
	{"listUsers", "", "limit=5&status=offline&type=mobile&q=a", ""},
	{"listAllDevices", "", "limit=5&status=offline&type=mobile&q=a", ""},
	{"listDevices", "user=alice", "limit=5&status=offline&type=mobile&q=a", ""},
	{"getDevice", "user=alice&device=phone", "", ""},
	{"issueToken", "user=alice&device=tab", "", `{"type":"browser","expiresSeconds":60}`},
	{"makeEnrolmentCode", "user=alice", "", `{"device":"watch","expiresSeconds":60}`},
	{"listInbox", "user=alice&device=phone", "limit=5&state=all&fromSeq=1", ""},
	{"replay", "user=alice&device=phone", "", `{"missed":true,"to":{"user":"alice","device":"tablet"},"dryRun":true}`},
	{"request", "user=alice&device=desktop&method=x", "timeoutMs=5000", `1`},
	{"publishToTopic", "topic=t", "", `1`},
	{"readTopic", "topic=t", "from=0&limit=5&last=false", ""},
	{"listTopics", "", "limit=5&q=t", ""},
	{"listFollowers", "topic=t", "limit=5", ""},
	{"status", "", "", ""},
	{"doctor", "", "", ""},
	{"listEdges", "", "limit=5", ""},
	{"drainEdge", "edge=EDGE", "", `{"force":true,"rate":1}`},
	{"resumeEdge", "edge=EDGE", "", ""},
	{"revoke", "", "", `{"kind":"device","name":"bob/phone","confirm":false}`},
	{"listRevocations", "", "limit=5", ""},
	{"unrevoke", "kind=device&name=bob/phone", "", ""},
	{"unrevokeAll", "", "", ""},
	{"listAudit", "", "limit=5&since=1h&action=revoke", ""},
	{"addTenant", "", "", `{"name":"another","limits":{"devices":5,"storageBytes":1000000,"consumers":5}}`},
	{"listTenants", "", "limit=5", ""},
	{"removeTenant", "name=another", "confirm=another", ""},
	{"forgetDevice", "user=alice&device=tablet", "unacknowledged=drop", ""},
	{"login", "", "", `{"token":"` + operatorToken + `"}`},
	// These are not asked for as they should be: events and live do not end, and
	// there is no session.
	{"events", "", "user=alice&device=phone&kind=online&after=0", ""},
	{"live", "", "tail=alice&history=true&payload=true", ""},
	{"logout", "", "", ""},
}

// named makes the path of an operation from its parameters.
func named(path string, parameters url.Values) string {
	for name, value := range parameters {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value[0]))
	}
	return path
}

// badNames cannot be names: as they stand in a path.
var badNames = map[string]string{
	"too long": strings.Repeat("x", 5000), "with a NUL": "a%00b", "not UTF-8": "a%FFb", "half a character": "%ED%A0%BD", "with a line break": "a%0Ab",
}

// Each parameter of each operation of the document, wrongly typed, missing, too
// large, given twice, of another tenant or encoded twice, is refused as a
// problem with its code, and nothing has been done.
func TestEveryParameterOfTheDocumentIsChecked(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	var d fullDocument
	got := p.get("/v1/openapi.json")
	got.into(t, &d)
	bad := newBadInput(p)
	before := bad.state()
	requests := make(map[string]query)
	for path, operations := range d.Paths {
		for method, op := range operations {
			at := slices.IndexFunc(good, func(g struct{ id, path, query, body string }) bool { return g.id == op.OperationID })
			if at < 0 {
				t.Errorf("%s has no good request to begin with", op.OperationID)
				continue
			}
			g := good[at]
			names, _ := url.ParseQuery(strings.ReplaceAll(g.path, "EDGE", bad.edge))
			values, _ := url.ParseQuery(g.query)
			q := query{method: strings.ToUpper(method), path: named(path, names), values: values, header: make(http.Header), body: g.body}
			requests[op.OperationID] = q
			for _, in := range op.Parameters {
				bad.parameter(op.OperationID, path, names, q, in)
			}
			if op.RequestBody != nil {
				bad.bodies(&d, op.OperationID, q, op.RequestBody.Content["application/json"].Schema, op.RequestBody.Required)
			}
		}
	}
	if bad.tried < 800 {
		t.Errorf("%d requests were tried: the document cannot have been read", bad.tried)
	}
	if after := bad.state(); after != before {
		t.Errorf("something was done:\n%s\nbefore:\n%s", after, before)
	}
	for _, g := range good {
		if g.id == "events" || g.id == "live" || g.id == "logout" {
			continue
		}
		got, want := p.ask(requests[g.id]), "2"
		if g.id == "unrevokeAll" { // all was not revoked
			want = "404"
		}
		if !strings.HasPrefix(fmt.Sprint(got.status), want) {
			t.Errorf("%s, as it should be: %d %s", g.id, got.status, got.body)
		}
	}
}

// badInput asks for what is to be refused.
type badInput struct {
	*place
	edge    string
	foreign http.Header // a service of another tenant
	tried   int
}

func newBadInput(p *place) *badInput {
	p.t.Helper()
	h := p.operator()
	p.addTenant(`{"name":"acme"}`)
	acme, err := p.n.Keys().Tenant("acme")
	if err != nil {
		p.t.Fatal(err)
	}
	cred, err := acme.IssueService("billing", auth.ServiceOptions{Bearer: true, MayIssue: true})
	if err != nil {
		p.t.Fatal(err)
	}
	p.visit("alice/phone", `,"type":"mobile"`)
	p.visit("alice/tablet", `,"type":"mobile"`)
	go serveRequests(p.connect("alice/desktop", ""))
	p.do("POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","payload":1,"id":"m1"}`, h)
	p.do("POST", "/v1/topics/t", `1`, h)
	var edges struct{ Items []struct{ ID string } }
	p.do("GET", "/v1/edges", "", h).into(p.t, &edges)
	return &badInput{place: p, edge: edges.Items[0].ID, foreign: header("Authorization", "Bearer "+cred.JWT)}
}

// state is what a request that does something would change.
func (b *badInput) state() string {
	b.t.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/v1/users", "/v1/devices", "/v1/users/alice/devices/phone/inbox?state=all", "/v1/topics", "/v1/topics/t", "/v1/revocations", "/v1/tenants", "/v1/audit?action=tenant", "/v1/audit?action=enroll", "/v1/audit?action=drain",
		"/v1/devices?tenant=acme", "/v1/topics?tenant=acme", "/v1/audit?tenant=acme",
	} {
		got := b.do("GET", path, "", b.operator())
		if got.status != http.StatusOK {
			b.t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		var v any
		got.into(b.t, &v)
		text, _ := json.Marshal(steady(v))
		fmt.Fprintf(&all, "%s %s\n", path, text)
	}
	return all.String()
}

// steady leaves out what changes by itself, and what was refused.
func steady(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range []string{"storedBytes", "bytes", "lastSeen", "stored", "messages"} {
			delete(v, name)
		}
		if _, tenant := v["served"]; tenant {
			delete(v, "consumers") // RCCS's own readers among them
		}
		for name := range v {
			v[name] = steady(v[name])
		}
		return v
	case []any:
		kept := []any{}
		for _, one := range v {
			if m, ok := one.(map[string]any); !ok || m["result"] != "refused" && m["result"] != "failed" {
				kept = append(kept, steady(one))
			}
		}
		return kept
	}
	return v
}

// refuse demands that a request is refused.
func (b *badInput) refuse(what string, q query, statuses ...int) {
	b.t.Helper()
	b.tried++
	got := b.ask(q)
	refused(b.t, what, got, statuses...)
	codes := map[int][]string{
		400: {"BAD_MESSAGE"}, 401: {"UNAUTHORIZED"}, 403: {"PERMISSION_DENIED"}, 404: {"NOT_FOUND", "DEVICE_NOT_FOUND"}, 405: {"METHOD_NOT_ALLOWED"},
		409: {"CONFLICT"}, 413: {"MESSAGE_TOO_LARGE"}, 415: {"UNSUPPORTED_MEDIA_TYPE"},
	}
	if got.status < 400 || got.status > 499 || !slices.Contains(codes[got.status], got.code()) {
		b.t.Errorf("%s: %d with the code %q", what, got.status, got.code())
	}
}

// parameter tries each kind of fault of one.
func (b *badInput) parameter(op, path string, names url.Values, q query, in parameter) {
	b.t.Helper()
	what := op + ", " + in.In + " " + in.Name
	switch in.In {
	case "path":
		at := func(value string) query {
			others := maps.Clone(names)
			delete(others, in.Name)
			return q.with(func(q *query) { q.path = strings.ReplaceAll(named(path, others), "{"+in.Name+"}", value) })
		}
		for kind, value := range badNames {
			b.refuse(what+" "+kind, at(value), 400, 404)
		}
		b.refuse(what+" missing", at(""), 404, 405)
		twice := "%25" + fmt.Sprintf("%02X", names.Get(in.Name)[0]) + names.Get(in.Name)[1:] // of what it begins with
		// A topic, and a device that is to come, may have any name; what it then
		// does, it does to that one.
		if !slices.Contains([]string{"publishToTopic", "readTopic", "listFollowers", "issueToken", "makeEnrolmentCode", "listDevices", "cancelMessage", "request"}, op) {
			b.refuse(what+" encoded twice", at(twice), 400, 404)
		}
		if in.Schema.Enum != nil {
			b.refuse(what+" that is none of those", at("other"), 400)
		}
	case "query":
		b.queryParameter(what, q, in)
	case "header":
		set := func(value string) query { return q.with(func(q *query) { q.header.Set(in.Name, value) }) }
		if in.Name != "Accept" {
			b.refuse(what+" given twice", q.with(func(q *query) { q.header[in.Name] = []string{"1", "2"} }), 400)
		}
		switch {
		case in.Name == "Accept": // another one is answered with JSON
		case in.Schema.Pattern != "":
			for _, value := range []string{"x", "-1", "1.5", strings.Repeat("9", 30)} {
				b.refuse(what+" "+value, set(value), 400)
			}
		default:
			b.refuse(what+" too long", set(strings.Repeat("x", 129)), 400)
			b.refuse(what+" not UTF-8", set("a\xff"), 400)
		}
	}
}

func (b *badInput) queryParameter(what string, q query, in parameter) {
	b.t.Helper()
	set := func(values ...string) query { return q.with(func(q *query) { q.values[in.Name] = values }) }
	s := in.Schema
	var wrong []string
	switch {
	case s.is("integer"):
		wrong = []string{"x", "1.5", "-1", "1e3", "0x1", "true", "%31"}
		if in.Name != "limit" && in.Name != "timeoutMs" { // of which too much is the most
			wrong = append(wrong, "99999999999999999999999")
		}
		if s.Minimum != nil && *s.Minimum > 0 {
			wrong = append(wrong, "0")
		}
	case s.is("boolean"):
		wrong = []string{"maybe", "2", "yes"}
	case s.Enum != nil:
		wrong = []string{"other", strings.ToUpper(s.Enum[0].(string)), strings.Repeat("x", 5000)}
	case s.is("array"):
		wrong = []string{"a.b", "*", ">", strings.Repeat("online,", 30) + "online"}
	case in.Name == "tenant":
		foreign := q.with(func(q *query) {
			q.values.Set("tenant", "default")
			q.header = b.foreign.Clone()
		})
		b.refuse(what+" of a service of another", foreign, 403)
		for _, value := range []string{"nope", "DEFAULT", "default%", strings.Repeat("x", 5000), "a\x00b", "%64efault", "../default"} {
			b.refuse(what+" "+value[:min(len(value), 12)], set(value), 404)
		}
	default:
		wrong = []string{strings.Repeat("x", 5000)}
		switch in.Name {
		case "after":
			wrong = append(wrong, "!", "%41", "a b", "garbage", "Z2E\n", "Z2F")
		case "since":
			wrong = append(wrong, "yesterday", "-1h", "1", "2026-01-01", "2026-01-01T0:00:00Z")
		case "user", "device", "tail":
			wrong = append(wrong, "a\x00b", "a\xffb")
		}
	}
	for _, value := range wrong {
		b.refuse(what+" "+value[:min(len(value), 12)], set(value), 400)
	}
	if !s.is("array") {
		value := q.values.Get(in.Name)
		if value == "" {
			value = "default"
		}
		b.refuse(what+" twice", set(value, value), 400)
	}
	b.refuse(what+" badly encoded", q.with(func(q *query) { q.path += "?" + in.Name + "=%ZZ"; q.values = nil }), 400)
	if in.Name == "confirm" {
		b.refuse(what+" missing", q.with(func(q *query) { q.values.Del("confirm") }), 400, 404)
	}
}

// bodies tries each kind of fault of a body.
func (b *badInput) bodies(d *fullDocument, op string, q query, s schema, required bool) {
	b.t.Helper()
	set := func(body string) query { return q.with(func(q *query) { q.body = body }) }
	for kind, body := range map[string]string{
		"half": `{"a":`, "two values": q.body + " " + q.body, "not UTF-8": "\"\xff\"", "too deep": strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		"NaN": "NaN", "with a comment": q.body + "//", "with a byte order mark": "\ufeff" + q.body, "single quotes": "{'a':1}",
	} {
		b.refuse(op+", a body "+kind, set(body), 400)
	}
	b.refuse(op+", a body of another type", q.with(func(q *query) { q.header.Set("Content-Type", "text/plain") }), 415)
	b.refuse(op+", a body as a form", q.with(func(q *query) { q.header.Set("Content-Type", "application/x-www-form-urlencoded") }), 415)
	b.refuse(op+", a body of another character set", q.with(func(q *query) { q.header.Set("Content-Type", "application/json; charset=utf-16") }), 415)
	b.refuse(op+", a body compressed", q.with(func(q *query) { q.header.Set("Content-Encoding", "gzip") }), 415)
	if required {
		b.refuse(op+", no body", q.with(func(q *query) { q.body = ""; q.header.Set("Content-Type", "application/json") }), 400)
	}
	top := d.resolve(s)
	if top.Properties == nil {
		return // any value is right
	}
	bodies := []string{`1`, `"x"`, `true`, `null`}
	if op != "sendMessages" { // of an array each element is answered
		bodies = append(bodies, `[1]`)
	}
	for _, body := range bodies {
		b.refuse(op+", the body "+body, set(body), 400)
	}
	var value map[string]any
	if err := json.Unmarshal([]byte(q.body), &value); err != nil {
		b.t.Fatal(err)
	}
	for what, changed := range d.faults(top, value) {
		b.refuse(op+", "+what, set(changed), 400)
	}
}

// faults are the value with one thing wrong, as JSON, by what it is.
func (d *fullDocument) faults(s schema, value map[string]any) map[string]string {
	faults := make(map[string]string)
	put := func(what string, change func(map[string]any)) {
		v := maps.Clone(value)
		change(v)
		text, _ := json.Marshal(v)
		faults[what] = string(text)
	}
	text, _ := json.Marshal(value)
	put("an unknown member", func(v map[string]any) { v["unknown"] = 1 })
	for _, name := range s.Required {
		put("without "+name, func(v map[string]any) { delete(v, name) })
	}
	for name, in := range s.Properties {
		numbers := len(in.OneOf) > 0 && in.OneOf[0].Ref == "" // a number or a name
		in = d.resolve(in)
		if _, given := value[name]; given {
			one, _ := json.Marshal(value[name])
			faults[name+" twice"] = strings.TrimSuffix(string(text), "}") + fmt.Sprintf(`,%q:%s}`, name, one)
			put(name+" in other letters", func(v map[string]any) {
				v[strings.ToUpper(name)] = v[name]
				delete(v, name)
			})
		}
		var wrong []any
		switch {
		case numbers:
			wrong = []any{-1, 4, 1.5, "urgent", true, []any{}}
		case in.Type == nil: // any value
		case in.is("string"):
			wrong = []any{7, true, []any{}, map[string]any{}}
			if in.MaxLength > 0 {
				wrong = append(wrong, strings.Repeat("x", in.MaxLength+1))
			}
			if in.Enum != nil || in.Format == "date-time" || in.Pattern != "" {
				wrong = append(wrong, "Other One")
			}
		case in.is("integer"):
			wrong = []any{"1", true, 1.5, []any{}, json.Number("1e400"), json.Number("99999999999999999999")}
			if in.Minimum != nil {
				wrong = append(wrong, *in.Minimum-1)
			}
			if in.Maximum != nil {
				wrong = append(wrong, *in.Maximum+1)
			}
		case in.is("boolean"):
			wrong = []any{"yes", 1, []any{}}
		case in.is("object"):
			wrong = []any{"x", 1, []any{}}
			if inner, ok := value[name].(map[string]any); ok {
				for what, changed := range d.faults(in, inner) {
					put(name+": "+what, func(all map[string]any) { all[name] = json.RawMessage(changed) })
				}
			}
		}
		for _, v := range wrong {
			put(fmt.Sprintf("%s as %.20v", name, v), func(all map[string]any) { all[name] = v })
		}
	}
	return faults
}
