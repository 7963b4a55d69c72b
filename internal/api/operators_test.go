package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/subjects"
)

func addr(user, device string) subjects.Address {
	return subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}
}

func TestInboxReplayAndForget(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.visit("alice/phone", "")
	p.visit("alice/tablet", "")
	const phone = "/v1/users/alice/devices/phone"
	for i := range 5 {
		p.post("/v1/messages", fmt.Sprintf(`{"to":{"user":"alice","device":"phone"},"type":"note","id":"m%d","payload":{"n":%d}}`, i, i))
	}
	var page struct {
		Items []struct {
			Seq                   uint64
			Lane, ID, Type, State string
			Payload               any
		}
		Next string
	}
	p.get(phone+"/inbox?limit=3").into(t, &page)
	if len(page.Items) != 3 || page.Items[0].ID != "m0" || page.Items[0].State != "unacknowledged" || page.Items[0].Lane != "normal" || page.Next == "" {
		t.Fatalf("the inbox is %+v", page)
	}
	third := page.Items[2].Seq
	p.get(phone+"/inbox?limit=3&after="+page.Next).into(t, &page)
	if len(page.Items) != 2 || page.Items[1].ID != "m4" {
		t.Errorf("the second page is %+v", page)
	}
	var from struct{ Items []any }
	p.get(fmt.Sprintf("%s/inbox?state=all&fromSeq=%d", phone, third)).into(t, &from)
	if len(from.Items) != 3 {
		t.Errorf("from the third: %d", len(from.Items))
	}
	p.get(phone+"/inbox?state=rejected").into(t, &from)
	if len(from.Items) != 0 {
		t.Errorf("rejected are %v", from.Items)
	}
	var done struct {
		Messages    int
		First, Last uint64
	}
	p.post(phone+"/replay", `{"missed":true,"dryRun":true,"to":{"user":"alice","device":"tablet"}}`).into(t, &done)
	if done.Messages != 5 || done.First == 0 || done.Last <= done.First {
		t.Errorf("it would be %+v", done)
	}
	p.post(phone+"/replay", fmt.Sprintf(`{"fromSeq":%d,"to":{"user":"alice","device":"tablet"}}`, third)).into(t, &done)
	if done.Messages != 3 || done.Last != done.First+2 {
		t.Errorf("replayed %+v", done)
	}
	for body, want := range map[string]int{
		`{}`: 400, `{"missed":true,"id":"x"}`: 400, `{"since":"yesterday"}`: 400, `{"since":"1h"}`: 200, `{"since":"30d","dryRun":true}`: 200,
		`{"id":"m1"}`: 200, `{"since":"2026-01-01T00:00:00Z"}`: 200, `{"missed":true,"to":{"user":"a/b","device":"c"}}`: 400,
		`{"missed":true,"to":{"user":"alice","device":"none"}}`: 404, `{"missed":"yes"}`: 400, `{"MISSED":true}`: 400, `{"dry_run":true,"missed":true}`: 400,
	} {
		if got := p.post(phone+"/replay", body); got.status != want {
			t.Errorf("replay %s: %d %s, want %d", body, got.status, got.body, want)
		}
	}
	got := p.delete(phone)
	var problem struct {
		Code           string
		Unacknowledged int
	}
	if got.into(t, &problem); got.status != http.StatusConflict || problem.Code != "CONFLICT" || problem.Unacknowledged < 5 {
		t.Errorf("forgotten with messages: %d %s", got.status, got.body)
	}
	for _, want := range []int{204, 404} {
		if got := p.delete(phone + "?unacknowledged=drop"); got.status != want {
			t.Errorf("forgotten: %d %s, want %d", got.status, got.body, want)
		}
	}
	p.connect("alice/desktop", "")
	if got := p.delete("/v1/users/alice/devices/desktop"); got.status != http.StatusConflict || got.code() != "CONFLICT" {
		t.Errorf("a connected one: %d %s", got.status, got.body)
	}
	audit := string(p.get("/v1/audit?limit=1000").body)
	for _, want := range []string{`"action":"replay"`, `"action":"forget"`, `"action":"read"`, `"who":"operator"`, `"result":"refused"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("%s is not in the audit: %s", want, audit)
		}
	}
	var first, second struct {
		Items []struct{ Seq uint64 }
		Next  string
	}
	p.get("/v1/audit?limit=2").into(t, &first)
	p.get("/v1/audit?limit=2&after="+first.Next).into(t, &second)
	if len(first.Items) != 2 || len(second.Items) != 2 || first.Items[1].Seq <= second.Items[0].Seq || first.Items[0].Seq <= first.Items[1].Seq {
		t.Errorf("pages of the audit are %+v and %+v", first, second)
	}
}

func TestServiceThatMayIssueLetsDevicesIn(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	web := p.service("web", auth.ServiceOptions{MayIssue: true})
	got := p.do("POST", "/v1/users/alice/devices/tab-1/token", `{"type":"browser","expiresSeconds":60}`, web)
	var token struct {
		Token     string
		ExpiresAt time.Time
	}
	if got.into(t, &token); got.status != http.StatusCreated || got.header.Get("Cache-Control") != "no-store" || time.Until(token.ExpiresAt) > time.Minute {
		t.Fatalf("%d %s", got.status, got.body)
	}
	register(t, p.n.Addr().String(), token.Token, "")
	if got := p.do("GET", "/v1/users/alice/devices/tab-1", "", web); !strings.Contains(string(got.body), `"type":"browser"`) {
		t.Errorf("registered as %s", got.body)
	}
	if got := p.do("POST", "/v1/users/alice/devices/tab-2/token", "", web); got.status != http.StatusCreated {
		t.Errorf("without a body: %d %s", got.status, got.body)
	}
	for body, want := range map[string]int{
		`{"expiresSeconds":86400}`: 201, `{"expiresSeconds":86401}`: 400, `{"expiresSeconds":0}`: 400, `{"expiresSeconds":"60"}`: 400, `{"expiresSeconds":60.0}`: 201, `{"expiresSeconds":6e1}`: 201, `{"expiresSeconds":60.5}`: 400,
		`{"type":7}`: 400, `{"name":"x"}`: 400, `[]`: 400, `{`: 400,
	} {
		if got := p.do("POST", "/v1/users/alice/devices/tab/token", body, web); got.status != want {
			t.Errorf("%s: %d %s, want %d", body, got.status, got.body, want)
		}
	}
	got = p.do("POST", "/v1/users/alice/enrolment-codes", `{"device":"phone","expiresSeconds":600}`, web)
	var code struct {
		Code, URL string
		ExpiresAt time.Time
	}
	if got.into(t, &code); got.status != http.StatusCreated || code.Code == "" || !strings.Contains(code.URL, "code="+code.Code) || code.ExpiresAt.IsZero() {
		t.Errorf("%d %s", got.status, got.body)
	}
	if audit := string(p.do("GET", "/v1/audit?action=enroll", "", p.operator()).body); !strings.Contains(audit, `"target":"alice/tab-1"`) || !strings.Contains(audit, `"who":"service:web"`) {
		t.Errorf("the audit is %s", audit)
	}
}

// What a service asks for and has no right to is in the audit, so often as does
// not fill it.
func TestARefusalOfAServiceIsInTheAudit(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	plain := p.service("plain", auth.ServiceOptions{})
	for range 100 {
		if got := p.do("POST", "/v1/users/alice/devices/tab-1/token", "", plain); got.status != http.StatusForbidden {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if got := p.do("GET", "/v1/revocations", "", plain); got.status != http.StatusForbidden {
		t.Fatalf("%d %s", got.status, got.body)
	}
	var list struct{ Items []audit.Record }
	p.do("GET", "/v1/audit?action=request&limit=1000", "", p.operator()).into(t, &list)
	if n := len(list.Items); n == 0 || n > 100 {
		t.Fatalf("%d records of 101 refusals, want some, and a bound", n)
	}
	one := list.Items[len(list.Items)-1]
	if one.Result != audit.ResultRefused || one.Who != "service:plain" || one.Why == "" || one.Target != "/v1/users/alice/devices/tab-1/token" {
		t.Errorf("the record is %+v", one)
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	h := p.operator()
	service := p.service("billing", auth.ServiceOptions{})
	p.connect("alice/phone", "")
	for body, want := range map[string]string{
		`{"kind":"device","name":"alice/phone"}`:   `201 {"known":true}`,
		`{"kind":"device","name":"alice/none"}`:    `201 {"known":false}`,
		`{"kind":"user","name":"alice"}`:           `201 {"known":true}`,
		`{"kind":"user","name":"nobody"}`:          `201 {"known":false}`,
		`{"kind":"service","name":"billing"}`:      `201`,
		`{"kind":"service","name":"typo"}`:         `201 {"known":false}`,
		`{"kind":"device","name":"alice"}`:         `400`,
		`{"kind":"house","name":"alice"}`:          `400`,
		`{"kind":"all"}`:                           `400`,
		`{"kind":"all","confirm":true,"name":"x"}`: `400`,
		`{"name":"alice"}`:                         `400`,
	} {
		got := p.do("POST", "/v1/revocations", body, h)
		if said := strings.TrimSpace(fmt.Sprintf("%d %s", got.status, got.body)); !strings.HasPrefix(said, want) {
			t.Errorf("%s: %s, want %s", body, said, want)
		}
	}
	p.eventually("the service's token ends", func() bool { return p.do("GET", "/v1/users", "", service).status == http.StatusUnauthorized })
	list := string(p.do("GET", "/v1/revocations", "", h).body)
	if !strings.Contains(list, `"name":"alice/phone"`) || !strings.Contains(list, `"kind":"service"`) {
		t.Errorf("revoked are %s", list)
	}
	for _, want := range []int{204, 404} {
		if got := p.do("DELETE", "/v1/revocations/device/alice%2Fphone", "", h); got.status != want {
			t.Errorf("taken back: %d %s, want %d", got.status, got.body, want)
		}
	}
	if got := p.do("DELETE", "/v1/revocations/all", "", h); got.status != http.StatusNotFound {
		t.Errorf("all was not revoked: %d %s", got.status, got.body)
	}
	if got := p.do("DELETE", "/v1/revocations/house/x", "", h); got.status != http.StatusBadRequest {
		t.Errorf("a kind that does not exist: %d %s", got.status, got.body)
	}
}

func TestEdgesStatusAndDoctor(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	var edges struct{ Items []struct{ Name, ID string } }
	p.get("/v1/edges").into(t, &edges)
	if len(edges.Items) != 1 || edges.Items[0].Name == "" {
		t.Fatalf("edges are %+v", edges)
	}
	p.eventually("the edge says where it listens", func() bool {
		return strings.Contains(string(p.get("/v1/edges").body), `"address":"`+p.n.Addr().String()+`"`)
	})
	edge := "/v1/edges/" + strings.ReplaceAll(edges.Items[0].Name, "/", "%2F") + "/drain"
	if got := p.post(edge, ""); got.status != http.StatusConflict || got.code() != "CONFLICT" {
		t.Errorf("the only one: %d %s", got.status, got.body)
	}
	if got := p.post(edge, `{"force":true}`); got.status != http.StatusAccepted || !strings.Contains(string(got.body), `"connections":0`) {
		t.Errorf("drained: %d %s", got.status, got.body)
	}
	p.eventually("the edge is listed as draining", func() bool { return strings.Contains(string(p.get("/v1/edges").body), `"draining":true`) })
	for _, want := range []int{204, 404} { // it then takes devices already
		if got := p.delete(edge); got.status != want {
			t.Errorf("taken back: %d %s, want %d", got.status, got.body, want)
		}
	}
	p.eventually("the edge takes devices again", func() bool { return !strings.Contains(string(p.get("/v1/edges").body), "draining") })
	if got := p.post("/v1/edges/none/drain", ""); got.status != http.StatusNotFound || got.code() != "NOT_FOUND" {
		t.Errorf("no such edge: %d %s", got.status, got.body)
	}
	var status map[string]json.RawMessage
	p.get("/v1/status").into(t, &status)
	for _, name := range []string{"server", "servers", "store", "streams", "edges", "coordinators", "devices", "online", "behind"} {
		if status[name] == nil {
			t.Errorf("%s is missing in the status", name)
		}
	}
	if got := p.get("/v1/doctor"); got.status != http.StatusOK || !strings.Contains(string(got.body), `"check":"server"`) {
		t.Errorf("the doctor: %d %s", got.status, got.body)
	}
}

// A page goes on behind the one before, also when what that one ended with is
// gone: nothing is listed twice, and nothing is left out.
func TestPagesGoOnWhereTheirLastItemWasTakenAway(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	names := []string{"acme", "beta", "gamma", "zeta"}
	for _, name := range names {
		p.addTenant(fmt.Sprintf(`{"name":%q}`, name))
		if got := p.post("/v1/revocations", fmt.Sprintf(`{"kind":"user","name":%q}`, name)); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	for _, list := range []struct{ path, take string }{
		{"/v1/tenants", "/v1/tenants/%[1]s?confirm=%[1]s"},
		{"/v1/revocations", "/v1/revocations/user/%s"},
	} {
		type items struct {
			Items []struct{ Name string }
			Next  string
		}
		var all, first, second items
		p.get(list.path).into(t, &all)
		p.get(list.path+"?limit=2").into(t, &first)
		last := first.Items[1].Name
		if last == auth.DefaultTenant { // which stays
			t.Fatalf("%s: the first page ends with %s", list.path, last)
		}
		if got := p.delete(fmt.Sprintf(list.take, last)); got.status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", last, got.status, got.body)
		}
		p.get(list.path+"?limit=1000&after="+first.Next).into(t, &second)
		if want := all.Items[2:]; !slices.Equal(second.Items, want) {
			t.Errorf("%s: behind %s, which is gone, come %v, want %v", list.path, last, second.Items, want)
		}
	}
}

// Whatever a replay selects, a dry run says the same as what is then done, and
// the copies are those messages, in their order, of the device or of another.
func TestReplayOfEveryKind(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	p.visit("alice/tablet", "")
	const inbox, replay = "/v1/users/alice/devices/phone/inbox?state=all", "/v1/users/alice/devices/phone/replay"
	for i := range 4 {
		p.post("/v1/messages", fmt.Sprintf(`{"to":{"user":"alice","device":"phone"},"type":"note","id":"m%d","payload":%d}`, i, i))
	}
	for range 2 { // the first two are acknowledged
		phone.Ack(phone.Until("note"))
	}
	type items struct {
		Items []struct {
			Seq            uint64
			ID, State      string
			Stored, Replay any
		}
	}
	var stored items
	p.eventually("two are acknowledged", func() bool {
		stored = items{}
		p.get(inbox).into(t, &stored)
		return len(stored.Items) == 4 && stored.Items[1].State == "acknowledged" && stored.Items[2].State == "unacknowledged"
	})
	third := stored.Items[2].Seq
	for _, c := range []struct {
		what, selects string
		ids           []string
	}{
		{"what was missed", `"missed":true`, []string{"m2", "m3"}},
		{"from a seq on", fmt.Sprintf(`"fromSeq":%d`, third), []string{"m2", "m3"}},
		{"since a duration", `"since":"1h"`, []string{"m0", "m1", "m2", "m3"}},
		{"since a time", `"since":"2026-01-01T00:00:00Z"`, []string{"m0", "m1", "m2", "m3"}},
		{"since a time to come", `"since":"2126-01-01T00:00:00Z"`, nil},
		{"one id", `"id":"m1"`, []string{"m1"}},
		{"an id that is not there", `"id":"m9"`, nil},
		{"from a seq to come", `"fromSeq":1000000`, nil},
	} {
		var would, did struct {
			Messages    int
			First, Last uint64
		}
		dry := p.post(replay, `{`+c.selects+`,"dryRun":true,"to":{"user":"alice","device":"tablet"}}`)
		done := p.post(replay, `{`+c.selects+`,"to":{"user":"alice","device":"tablet"}}`)
		if dry.status != done.status {
			t.Errorf("%s: a dry run says %d %s, the replay %d %s", c.what, dry.status, dry.body, done.status, done.body)
			continue
		}
		t.Logf("%s: %d %s", c.what, done.status, strings.TrimSpace(string(done.body)))
		if done.status != http.StatusOK {
			if len(c.ids) > 0 || done.code() == "" {
				t.Errorf("%s: %d %s", c.what, done.status, done.body)
			}
			continue
		}
		dry.into(t, &would)
		done.into(t, &did)
		if would.Messages != len(c.ids) || did.Messages != len(c.ids) {
			t.Errorf("%s: would be %d messages, were %d, want %v", c.what, would.Messages, did.Messages, c.ids)
			continue
		}
		if len(c.ids) == 0 {
			continue
		}
		var copies items
		p.get(fmt.Sprintf("/v1/users/alice/devices/tablet/inbox?state=all&fromSeq=%d", did.First)).into(t, &copies)
		ids := make([]string, 0, len(copies.Items))
		for _, m := range copies.Items {
			ids = append(ids, m.ID)
		}
		if !slices.Equal(ids, c.ids) || copies.Items[len(ids)-1].Seq != did.Last {
			t.Errorf("%s: the copies are %v up to %d, want %v up to %d", c.what, ids, copies.Items[len(ids)-1].Seq, c.ids, did.Last)
		}
	}
	// To the device itself, which gets them as replayed.
	if got := p.post(replay, `{"id":"m0"}`); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for {
		if m := phone.Until("note"); m["id"] == "m0" {
			if m["replay"] != true {
				t.Errorf("the copy is %v", m)
			}
			break
		}
	}
}

// Revoking all ends the connections of the server's own parts too. They come back,
// and the answer comes in time, also when a tenant was added and removed before.
func TestRevokingAllIsAnswered(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	for range 3 {
		p.addTenant(`{"name":"acme"}`)
		if got := p.delete("/v1/tenants/acme?confirm=acme"); got.status != http.StatusNoContent {
			t.Fatalf("remove it: %d %s", got.status, got.body)
		}
		if got := p.post("/v1/revocations", `{"kind":"all","confirm":true}`); got.status != http.StatusCreated {
			t.Fatalf("revoke all: %d %s", got.status, got.body)
		}
		p.eventually("all parts are back", func() bool { return p.get("/v1/users").status == http.StatusOK })
	}
}

// A tenant is made with as many shards as are asked for, and answers for users of
// all.
func TestATenantIsMadeWithSeveralShards(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	if got := p.post("/v1/tenants", `{"name":"acme","shards":65}`); got.status != http.StatusBadRequest || !strings.Contains(string(got.body), "shards") {
		t.Errorf("65 shards: %d %s", got.status, got.body)
	}
	var made, other struct{ Shards int }
	p.addTenant(`{"name":"other"}`).into(t, &other)
	if got := p.addTenant(`{"name":"acme","shards":3}`); got.status == http.StatusCreated {
		if got.into(t, &made); made.Shards != 3 || other.Shards != 0 {
			t.Errorf("made with %d and %d shards", made.Shards, other.Shards)
		}
	}
	streams := map[string]bool{}
	var status struct{ Streams []struct{ Name string } }
	p.get("/v1/status?tenant=acme").into(t, &status)
	for _, s := range status.Streams {
		streams[s.Name] = true
	}
	if !streams["RCCS_INBOX_0"] || !streams["RCCS_INBOX_2"] || streams["RCCS_INBOX_3"] || streams["RCCS_INBOX"] {
		t.Errorf("its streams are %v", streams)
	}
	for n := range 6 { // each shard knows that it has no such user
		if got := p.post("/v1/messages?tenant=acme", fmt.Sprintf(`{"to":{"user":"user%d","device":"phone"},"type":"note","payload":1}`, n)); got.code() != "DEVICE_NOT_FOUND" {
			t.Errorf("a message to user%d: %d %s", n, got.status, got.body)
		}
	}
	var list struct {
		Items []struct {
			Name   string
			Shards int
		}
	}
	p.get("/v1/tenants").into(t, &list)
	for _, one := range list.Items {
		if want := map[string]int{"acme": 3}[one.Name]; one.Shards != want {
			t.Errorf("%s is listed with %d shards", one.Name, one.Shards)
		}
	}
}

// A device finds its tenant in what it scans.
func TestEnrolmentCodeOfATenantSaysWhichOne(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.addTenant(`{"name":"acme"}`)
	for tenant, want := range map[string]string{"acme": "acme", "default": ""} {
		var made struct{ URL string }
		p.post("/v1/users/alice/enrolment-codes?tenant="+tenant, `{"device":"phone"}`).into(t, &made)
		link, err := url.Parse(made.URL)
		if err != nil || link.Query().Get("user") != "alice" || link.Query().Get("tenant") != want {
			t.Errorf("of tenant %s: %q (%v)", tenant, made.URL, err)
		}
	}
}
