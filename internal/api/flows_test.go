package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// sse reads Server-Sent Events.
type sse struct {
	t      testing.TB
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

type event struct{ id, kind, data string }

func (p *place) stream(path string, h http.Header) *sse {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	maps.Copy(r.Header, h)
	resp, err := p.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	s := &sse{t: p.t, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	s.lines.Buffer(nil, 4<<20)
	return s
}

// next is the next event, comments left out.
func (s *sse) next() (e event) {
	s.t.Helper()
	defer time.AfterFunc(testkit.Patience, s.cancel).Stop()
	for s.lines.Scan() {
		switch name, value, _ := strings.Cut(s.lines.Text(), ": "); name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data += value
		case "":
			if e.data != "" {
				return e
			}
		}
	}
	s.t.Fatalf("the stream has ended: %v", s.lines.Err())
	return e
}

// until is the next event of a kind.
func (s *sse) until(kind string) event {
	s.t.Helper()
	for {
		if e := s.next(); e.kind == kind {
			return e
		}
	}
}

func TestEventsGoOnBehindTheLastEventID(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	s := p.stream("/v1/events?user=alice", nil)
	p.connect("bob/phone", "")
	phone := p.connect("alice/phone", "")
	if e := s.next(); e.kind != "registered" || !strings.Contains(e.data, `"phone"`) || e.id == "" {
		t.Fatalf("first came %+v", e)
	}
	online := s.until("online")
	s.cancel()
	p.post("/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","id":"m1","payload":1}`)
	phone.Ack(phone.Until("note"))
	again := p.stream("/v1/events?user=alice", header("Last-Event-ID", online.id))
	if e := again.next(); e.kind != "delivered" || !strings.Contains(e.data, `"m1"`) {
		t.Errorf("then came %+v", e)
	}
	after := p.stream("/v1/events?user=alice&kind=online,delivered&after=0", nil)
	if a, b := after.next(), after.next(); a.kind != "online" || b.kind != "delivered" {
		t.Errorf("from the beginning came %+v and %+v", a, b)
	}
	// The stream is younger than the one that gave this id out.
	if e := p.stream("/v1/events?after=1000000", nil).next(); e.kind != "gap" {
		t.Errorf("behind what there is came %+v", e)
	}
}

func TestEventsThatAreGoneAreTold(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.connect("alice/phone", "")
	p.connect("alice/tablet", "")
	nc := p.nats()
	if _, err := nc.Request("$JS.API.STREAM.PURGE.RCCS_EVENT", []byte(`{"seq":4}`), testkit.Patience); err != nil {
		t.Fatal(err)
	}
	s := p.stream("/v1/events?after=1", nil)
	if e := s.next(); e.kind != "gap" || e.data != `{"from":2,"to":3,"count":2}` {
		t.Errorf("first came %+v", e)
	}
	if e := s.next(); e.id != "4" {
		t.Errorf("then came %+v", e)
	}
}

// A client that reads slowly loses nothing that is stored.
func TestSlowReaderOfEventsGetsThemAll(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	nc := p.nats()
	const many = 5000
	s := p.stream("/v1/events", nil)
	for i := range many {
		body := fmt.Sprintf(`{"kind":"full","n":%d,"pad":%q}`, i, strings.Repeat("x", 500))
		if err := nc.Publish("rccs.event.alice.phone.full", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		if e := s.next(); !strings.Contains(e.data, fmt.Sprintf(`"n":%d,`, i)) {
			t.Fatalf("event %d is %.100s", i, e.data)
		}
	}
}

// What waits is the figure that Prometheus is told too.
func TestLiveTellsWhatWaits(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.connect("alice/phone", "")
	p.post("/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","id":"m","payload":1}`)
	s := p.stream("/v1/live", nil)
	for n := 0; !strings.Contains(s.until("stats").data, `"unacknowledged":1,`); n++ {
		if n > 100 {
			t.Fatal("the message that waits is not in the statistics")
		}
	}
}

func TestLiveTellsStatisticsAndMessages(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	s := p.stream("/v1/live?tail=alice", nil)
	e := s.until("stats")
	for _, name := range []string{
		"at", "connections", "devicesOnline", "receivedPerSecond", "deliveredPerSecond", "acknowledgedPerSecond", "storedToWrittenMs", "storedToAckedMs",
		"unacknowledged", "storedBytes", "storageLimit", "p50", "p99",
	} {
		if !strings.Contains(e.data, `"`+name+`":`) {
			t.Errorf("%s is missing in %s", name, e.data)
		}
	}
	for n := 0; ; n++ {
		p.post("/v1/messages", fmt.Sprintf(`{"to":{"user":"alice","device":"phone"},"type":"note","id":"m%d","payload":1}`, n))
		phone.Ack(phone.Until("note"))
		if e := s.next(); e.kind == "message" {
			if !strings.Contains(e.data, `"user":"alice"`) || strings.Contains(e.data, "payload") {
				t.Errorf("a message is %s", e.data)
			}
			if strings.Contains(e.data, `"kind":"inbox"`) { // others, as of the cursor, may come first
				break
			}
		}
		if n > 1000 {
			t.Fatal("no message is shown")
		}
	}
	if got := p.get("/v1/live?tail=a%2F"); got.status != http.StatusBadRequest {
		t.Errorf("a bad tail: %d %s", got.status, got.body)
	}
	if e := p.stream("/v1/live?history=true", nil).next(); e.kind != "history" || !strings.HasPrefix(e.data, "[") {
		t.Errorf("history is %+v", e)
	}
}

// A console that does not read for a while is told how many messages it has
// missed; what it got and what it missed is all that came.
func TestSlowConsoleIsToldOfAGap(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.visit("alice/phone", "")
	s := p.stream("/v1/live?tail=alice&payload=true", nil)
	s.until("stats")
	const lots, lot = 40, 100
	one := `{"to":{"user":"alice","device":"phone"},"type":"note","payload":"` + strings.Repeat("x", 8<<10) + `"}`
	all := "[" + strings.Repeat(one+",", lot-1) + one + "]"
	p.eventually("messages are shown", func() bool { // the tail begins a moment later
		p.post("/v1/messages", one)
		return s.next().kind == "message"
	})
	for range lots {
		if got := p.post("/v1/messages", all); got.status != http.StatusOK {
			t.Fatalf("%d %.200s", got.status, got.body)
		}
	}
	p.post("/v1/messages", strings.Replace(one, `"note"`, `"last"`, 1))
	shown, missed := 0, 0
	for missed == 0 || shown+missed < lots*lot {
		switch e := s.next(); e.kind {
		case "message":
			shown++
		case "gap":
			var gap struct{ From, To, Count int }
			if err := json.Unmarshal([]byte(e.data), &gap); err != nil || gap.Count < 1 || gap.To < gap.From {
				t.Fatalf("a gap is %s", e.data)
			}
			missed += gap.Count
		}
	}
	t.Logf("%d shown, %d missed", shown, missed)
}

// The server keeps the last hour whether or not somebody looks.
func TestHistoryIsThereForTheFirstWhoLooks(t *testing.T) {
	t.Parallel()
	for wait := 2 * time.Second; ; wait *= 2 { // twice as long as it is between two statistics; a busy machine takes longer
		p := serve(t, false) // nobody has looked at this one
		began := time.Now()
		p.eventually("statistics are taken", func() bool { return time.Since(began) > wait })
		var kept []map[string]any
		e := p.stream("/v1/live?history=true", nil).next()
		if e.kind != "history" || json.Unmarshal([]byte(e.data), &kept) != nil {
			t.Fatalf("first came %+v", e)
		}
		if len(kept) > 0 {
			return
		}
		if wait > testkit.Patience/3 {
			t.Fatalf("after %s nothing is kept", wait)
		}
	}
}

const requests = "/v1/users/alice/devices/desktop/requests/"

func TestRequestIsAnsweredByTheDevice(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	desktop := p.connect("alice/desktop", "")
	serving := make(chan map[string]any, 64)
	go func() {
		for {
			_, frame, err := desktop.ReadMessage()
			if err != nil {
				close(serving)
				return
			}
			serving <- decode(frame)
		}
	}()
	reply := func(m map[string]any, frames ...string) {
		for _, f := range frames {
			desktop.Send(fmt.Sprintf(`{"type":"response","correlationId":%q,%s}`, m["id"], f))
		}
	}
	handle := func(frames ...string) {
		go func() { reply(<-serving, frames...) }()
	}
	next := func() map[string]any {
		t.Helper()
		return testkit.Await(t, "what the device is sent", serving)
	}

	handle(`"payload":{"result":{"lines": 12}}`)
	if got := p.post(requests+"file%2Eopen", `{"path":"/tmp"}`); got.status != http.StatusOK || string(got.body) != `{"lines": 12}` {
		t.Errorf("answered: %d %s", got.status, got.body)
	}
	handle(`"payload":{"error":{"code":"not_found","message":"no such file"}}`)
	got := p.post(requests+"file.open", "")
	if got.status != http.StatusBadGateway || got.code() != "DEVICE_ERROR" || !strings.Contains(string(got.body), `"deviceError":{"code":"not_found","message":"no such file"}`) {
		t.Errorf("failed: %d %s", got.status, got.body)
	}
	parts := []string{`"partial":true,"payload":{"result":"one"}`, `"partial":true,"payload":{"result":{"n": 2}}`, `"payload":{"result":null}`}
	handle(parts...)
	got = p.do("POST", requests+"run", "", header("Accept", "application/x-ndjson"))
	if want := "{\"result\":\"one\"}\n{\"result\":{\"n\":2}}\n{\"result\":null}\n"; string(got.body) != want || got.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("lines: %q", got.body)
	}
	handle(parts...)
	got = p.do("POST", requests+"run", "", header("Accept", "text/event-stream"))
	if want := "data: {\"result\":\"one\"}\n\ndata: {\"result\":{\"n\":2}}\n\ndata: {\"result\":null}\n\n"; string(got.body) != want {
		t.Errorf("events: %q", got.body)
	}
	handle(parts...)
	got = p.do("POST", requests+"run", "", header("Accept", "application/x-ndjson;q=0"))
	if string(got.body) != "null" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("what is not accepted is answered: %s %q", got.header.Get("Content-Type"), got.body)
	}
	handle(parts[0], `"payload":{"error":{"code":"x","message":"y"}}`)
	got = p.do("POST", requests+"run", "", header("Accept", "application/x-ndjson"))
	if !strings.HasPrefix(string(got.body), "{\"result\":\"one\"}\n{\"error\":{") || !strings.Contains(string(got.body), "DEVICE_ERROR") {
		t.Errorf("an error behind a part: %q", got.body)
	}
	if got := p.post(requests+"slow?timeoutMs=50", "1"); got.status != http.StatusGatewayTimeout || got.code() != "TIMEOUT" {
		t.Errorf("too late: %d %s", got.status, got.body)
	}
	if m := next(); m["type"] != "request" || m["payload"].(map[string]any)["params"] != 1.0 {
		t.Errorf("asked %v", m)
	}
	if m := next(); m["type"] != "ack" { // it is told that nobody waits any more
		t.Errorf("then told %v", m)
	}

	// A client that goes away cancels.
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+requests+"slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := p.http.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	m := next()
	cancel()
	<-gone
	if told := next(); told["type"] != "ack" || told["payload"].(map[string]any)["cancel"] != m["id"] {
		t.Errorf("told %v of the request %v", told, m["id"])
	}
	if m["fromDeviceId"] != "service:operator" {
		t.Errorf("asked by %v", m["fromDeviceId"])
	}
	_ = desktop.Close()
	p.eventually("it is offline", func() bool {
		got = p.post(requests+"x", "")
		return got.status == http.StatusServiceUnavailable && got.code() == "DEVICE_OFFLINE" && got.header.Get("Retry-After") != ""
	})
	if got := p.post("/v1/users/alice/devices/nobody/requests/x", ""); got.status != http.StatusNotFound || got.code() != "DEVICE_NOT_FOUND" {
		t.Errorf("never registered: %d %s", got.status, got.body)
	}
}

func TestTopicIsPublishedAndRead(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	phone.Send(`{"type":"subscribe","id":"s","payload":{"topic":"builds.main"}}`)
	phone.Until("ack")
	h := header("Idempotency-Key", "k1")
	first := p.do("POST", "/v1/topics/builds.main", `{ "green" : true }`, h)
	var a, b struct {
		Seq       uint64
		Duplicate bool
	}
	first.into(t, &a)
	p.do("POST", "/v1/topics/builds.main", `2`, h).into(t, &b)
	if first.status != http.StatusAccepted || a.Seq == 0 || a.Duplicate || !b.Duplicate || b.Seq != a.Seq {
		t.Errorf("published %+v, then %+v", a, b)
	}
	if m := phone.Until("topic"); m["topic"] != "builds.main" || m["fromDeviceId"] != "service:operator" || m["id"] != "k1" {
		t.Errorf("the device got %v", m)
	}
	for i := range 4 {
		p.post("/v1/topics/builds.main", fmt.Sprint(i))
	}
	var page struct {
		Items []struct {
			Seq                 uint64
			ID, From, Timestamp string
			Data                any
		}
		Next string
	}
	p.get("/v1/topics/builds.main?limit=2").into(t, &page)
	if len(page.Items) != 2 || page.Items[0].ID != "k1" || page.Items[0].From != "service:operator" || page.Next == "" || page.Items[0].Timestamp == "" {
		t.Errorf("the first page is %+v", page)
	}
	p.get("/v1/topics/builds.main?limit=10&after="+page.Next).into(t, &page)
	if len(page.Items) != 3 || page.Items[2].Data != 3.0 {
		t.Errorf("the second page is %+v", page)
	}
	var rest struct{ Items []any }
	p.get(fmt.Sprintf("/v1/topics/builds.main?from=%d", a.Seq+1)).into(t, &rest)
	if len(rest.Items) != 4 {
		t.Errorf("from the second on: %+v", rest)
	}
	p.get("/v1/topics/builds.main?last=true&limit=2").into(t, &rest)
	if len(rest.Items) != 2 {
		t.Errorf("the last two: %+v", rest)
	}
	const following = `{"items":[{"user":"alice","device":"phone","edge":"`
	if got := p.get("/v1/topics/builds.main/followers"); !strings.HasPrefix(string(got.body), following) {
		t.Errorf("followers are %d %s", got.status, got.body)
	}
	if got := p.get("/v1/topics/builds.other/followers"); strings.TrimSpace(string(got.body)) != `{"items":[]}` {
		t.Errorf("followers of another are %d %s", got.status, got.body)
	}
	if got := p.get("/v1/topics/a..b/followers"); got.status != http.StatusBadRequest {
		t.Errorf("followers of no topic are %d %s", got.status, got.body)
	}
	if got := p.get("/v1/topics?q=MAIN"); !strings.Contains(string(got.body), `{"topic":"builds.main","messages":5,"followers":1}`) {
		t.Errorf("topics are %s", got.body)
	}
}

// Each device that follows a topic is listed once, page by page, and no more when
// it has left.
func TestFollowersOfATopicAreListedInPages(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	devices := make(map[string]*devicetest.Device)
	for _, name := range []string{"alice/phone", "alice/tablet", "bob/phone"} {
		d := p.connect(name, "")
		d.Send(`{"type":"subscribe","id":"s","payload":{"topic":"t"}}`)
		d.Until("ack")
		devices[name] = d
	}
	list := func() (names []string) {
		for next := ""; ; {
			var page struct {
				Items []struct{ User, Device string }
				Next  string
			}
			p.get("/v1/topics/t/followers?limit=1&after="+next).into(t, &page)
			for _, f := range page.Items {
				names = append(names, f.User+"/"+f.Device)
			}
			if next = page.Next; next == "" {
				return names
			}
		}
	}
	if got := list(); strings.Join(got, " ") != "alice/phone alice/tablet bob/phone" {
		t.Errorf("followers are %v", got)
	}
	devices["alice/tablet"].Send(`{"type":"unsubscribe","id":"u","payload":{"topic":"t"}}`)
	devices["alice/tablet"].Until("ack")
	if got := list(); strings.Join(got, " ") != "alice/phone bob/phone" {
		t.Errorf("then followers are %v", got)
	}
}

// Who asks for the headers of a stream gets them, and nothing is held open.
func TestHeadOfAStreamEnds(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	for _, path := range []string{"/v1/events", "/v1/events?after=0", "/v1/live", "/v1/live?tail=&history=true"} {
		got := p.do(http.MethodHead, path, "", nil)
		if got.status != http.StatusOK || got.header.Get("Content-Type") != "text/event-stream" || len(got.body) != 0 {
			t.Errorf("%s: %d %v %s", path, got.status, got.header, got.body)
		}
	}
	if got := p.do(http.MethodHead, "/v1/events?user=a%2Fb", "", nil); got.status != http.StatusBadRequest {
		t.Errorf("of a bad user: %d", got.status)
	}
	if got := p.get("/v1/audit?action=read"); strings.Contains(string(got.body), "tail") {
		t.Errorf("nobody has read anything, and the audit has %s", got.body)
	}
}

// A frame nests at most 10,000 deep, and so does what this API answers: what
// would be deeper once it stands in its frame is refused, and what services
// store on NATS is shown as base64 where it is deeper.
func TestWhatNestsTooDeepForItsFrameIsRefused(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	phone.Send(`{"type":"subscribe","id":"s","payload":{"topic":"deep"}}`)
	phone.Until("ack")
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	note := func(n int) string {
		return `{"to":{"user":"alice","device":"phone"},"type":"note","payload":` + nested(n) + `}`
	}
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/v1/topics/deep", nested(9998), http.StatusBadRequest},
		{"/v1/topics/deep", nested(9997), http.StatusAccepted},
		{requests + "x?timeoutMs=50", nested(9998), http.StatusBadRequest},
		{"/v1/messages", note(9999), http.StatusBadRequest},
		{"/v1/messages", "[" + note(9998) + "]", http.StatusOK},
	} {
		if got := p.post(c.path, c.body); got.status != c.status {
			t.Errorf("%s, %d bytes: %d %s, want %d", c.path, len(c.body), got.status, got.body, c.status)
		}
	}
	for came := map[any]bool{}; !came["topic"] || !came["note"]; { // in any order
		m := phone.ReadAny()
		if came[m["type"]] = true; m["type"] == "topic" && m["payload"] == nil {
			t.Errorf("the device got %.100v", m)
		}
	}
	if err := p.nats().Publish("rccs.topic.deep", []byte(nested(9998))); err != nil {
		t.Fatal(err)
	}
	phone.Until("topic")
	for path, want := range map[string]int{"/v1/topics/deep": 2, "/v1/users/alice/devices/phone/inbox?state=all": 1} {
		var list struct{ Items []struct{ Encoding string } }
		p.get(path).into(t, &list) // which takes 10,000 levels
		if len(list.Items) != want || list.Items[want-1].Encoding != "base64" {
			t.Errorf("%s has %+v", path, list.Items)
		}
	}
}
