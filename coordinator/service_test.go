package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestItIsShownAsAMicroService(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	var ping micro.Ping
	p.askAt(p.nc, "$SRV.PING", nil, &ping)
	if ping.Name != coordinator.ServiceName || ping.Version != "1.2.3" || ping.ID == "" || ping.Type != micro.PingResponseType {
		t.Errorf("PING is answered with %+v", ping)
	}
	var info micro.Info
	p.askAt(p.nc, "$SRV.INFO."+coordinator.ServiceName, nil, &info)
	var names []string
	for _, e := range info.Endpoints {
		names = append(names, e.Name)
		if e.Subject == "" || e.QueueGroup == "" || e.Metadata["description"] == "" {
			t.Errorf("an endpoint is shown as %+v", e)
		}
	}
	want := []string{
		"status", "devices", "device", "sessions", "edges", "forget", "missed", "replay", "part-forget",
		"device-fetch", "device-ack", "device-send", "device-up",
	}
	if !slices.Equal(names, want) || info.Description == "" || info.Type != micro.InfoResponseType {
		t.Errorf("INFO is answered with %+v", info)
	}
	p.ask("edges", nil, nil)
	p.ask("device", nil, nil) // without a name
	var stats micro.Stats
	p.askAt(p.nc, "$SRV.STATS."+coordinator.ServiceName+"."+ping.ID, nil, &stats)
	for _, e := range stats.Endpoints {
		asked, failed := 0, 0
		switch e.Name {
		case "edges":
			asked = 1
		case "device":
			asked, failed = 1, 1
		}
		if e.NumRequests != asked || e.NumErrors != failed || (asked > 0) != (e.ProcessingTime > 0) || (failed > 0) != strings.HasPrefix(e.LastError, "400:") {
			t.Errorf("STATS say %+v of %s", e, e.Name)
		}
	}
}

// An answer on a foreign reply subject would be a message in an inbox, or a
// command to JetStream.
func TestItAnswersOnlyWhereTheRequesterMayBeAnswered(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	phone := address("alice/phone").Key()
	seq := p.publish(subjects.Inbox(phone, subjects.Normal), "1")
	heard, err := p.nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	replies := []string{
		"$JS.API.STREAM.PURGE." + layout.StreamInbox, subjects.Inbox(phone, subjects.Normal), subjects.ReplyPrefix(phone) + ".x",
		layout.Cursor(phone), "_INBOX.>", "_INBOX.*", "_INBOX.a.b.c", "_INBOX", "_INBOX.", "_RCCS.", "anything",
	}
	for _, subject := range []string{"$SRV.PING", "$SRV.INFO", "$SRV.STATS", subjects.CoordinatorEndpoint("status")} {
		for _, reply := range replies {
			if err := p.nc.PublishRequest(subject, reply, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, reply := range append(replies[:1:1], subjects.Inbox(phone, subjects.Normal), "_INBOX.abc", subjects.ReplyPrefix(phone), "_INBOX.alice.phones.x", "_RCCS.x", subjects.ReplyPrefix(phone)+".*") {
		for endpoint, body := range map[string]string{"fetch": `{}`, "send": `{"id":"s","type":"note","payload":1}`, "up": `{"id":"u","type":"note","payload":1}`, "ack": `{"upTo":9}`} {
			if err := p.nc.PublishRequest(subjects.DeviceEndpoint(phone, endpoint), reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, endpoint := range []string{"status", "edges"} { // behind all of those
		p.ask(endpoint, nil, nil)
	}
	if got := p.stored(layout.StreamInbox, subjects.Inbox(phone, subjects.Normal)); len(got) != 1 || got[0].Sequence != seq {
		t.Errorf("the inbox holds %v", got)
	}
	if got := p.stored(subjects.StreamUp, layout.AllUp()); len(got) != 0 {
		t.Errorf("something was done: %v", got)
	}
	if got := p.stored(layout.StreamCursor, layout.Cursor(phone)); len(got) != 0 {
		t.Errorf("the cursor has moved: %v", got)
	}
	for {
		m, err := heard.NextMsg(50 * time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(replies, m.Subject) && m.Reply == "" {
			t.Errorf("%s was told %q", m.Subject, m.Data)
		}
	}
}

func TestRequestsAreAnsweredByOneOfSeveralCoordinators(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	_, stop := p.coordinate()
	answers, err := p.nc.SubscribeSync("_INBOX.answers")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if i == 20 {
			stop()
		}
		if err := p.nc.PublishRequest(subjects.CoordinatorEndpoint("edges"), "_INBOX.answers", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := answers.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := answers.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("one request too many was answered: %q", m.Data)
	}
}

func TestErrorsHaveCodes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	for _, c := range []struct {
		endpoint string
		request  any
		want     string
	}{
		{"device", nil, "BAD_MESSAGE"},
		{"device", "text", "BAD_MESSAGE"},
		{"device", map[string]string{"user": "a/b", "device": "x"}, "BAD_MESSAGE"},
		{"device", map[string]string{"user": "nobody", "device": "x"}, "DEVICE_NOT_FOUND"},
		{"missed", map[string]string{"user": "nobody", "device": "x"}, "DEVICE_NOT_FOUND"},
		{"forget", map[string]string{"user": "nobody", "device": "x"}, "DEVICE_NOT_FOUND"},
		{"forget", map[string]string{"user": "", "device": "x"}, "BAD_MESSAGE"},
		{"replay", map[string]string{"user": "a", "device": "x"}, "BAD_MESSAGE"},
		{"replay", map[string]any{"user": "a", "device": "x", "missed": true, "to": "x"}, "BAD_MESSAGE"},
		{"replay", map[string]any{"user": "a", "device": "x", "missed": true, "id": "x"}, "BAD_MESSAGE"},
		{"replay", map[string]any{"user": "a", "device": "x", "missed": true, "to": "b/x"}, "PERMISSION_DENIED"},
		{"devices", map[string]any{"after": "x"}, "BAD_MESSAGE"},
		{"devices", map[string]any{"limit": "x"}, "BAD_MESSAGE"},
	} {
		if got := p.ask(c.endpoint, c.request, nil); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.endpoint, c.request, got, c.want)
		}
	}
}

type listed struct {
	User, Device, Type, Status, Session, Edge string
	Capabilities                              json.RawMessage
}

func (l *listed) name() string { return l.User + "/" + l.Device }

func TestDevicesAreListedByPages(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	e := p.edge("edge one")
	p.register(e, "alice/b", "mobile", "supportsFileSync")
	p.connect(e, "alice/a", "desktop")
	p.register(e, "al/c", "mobile")
	p.connect(e, "bob/my.phone", "mobile")
	c, _ := p.coordinate()
	p.eventually("all is known", func() bool {
		var all struct{ Devices []listed }
		p.ask("devices", nil, &all)
		return len(all.Devices) == 4
	})
	if err := c.Healthy(); err != nil {
		t.Error(err)
	}
	var names []string
	for after, pages := "", 0; ; pages++ {
		var page struct {
			Devices []listed
			Next    string
		}
		p.ask("devices", map[string]any{"limit": 2, "after": after}, &page)
		for _, d := range page.Devices {
			names = append(names, d.name())
		}
		if after = page.Next; after == "" || pages > 4 {
			break
		}
	}
	if want := []string{"al/c", "alice/a", "alice/b", "bob/my.phone"}; !slices.Equal(names, want) {
		t.Errorf("listed %v", names)
	}
	var of struct{ Devices, Sessions []listed }
	p.ask("devices", map[string]any{"user": "alice"}, &of)
	if len(of.Devices) != 2 || of.Devices[1].Type != "mobile" || string(of.Devices[1].Capabilities) != `{"supportsFileSync":true}` || of.Devices[1].Status != "offline" {
		t.Errorf("alice has %+v", of.Devices)
	}
	p.ask("devices", map[string]any{"online": true}, &of)
	if len(of.Devices) != 2 || of.Devices[0].name() != "alice/a" {
		t.Errorf("online are %+v", of.Devices)
	}
	p.ask("sessions", map[string]any{"edge": "edge one"}, &of)
	if len(of.Sessions) != 2 || of.Sessions[0].Session == "" || of.Sessions[0].Edge == "" || of.Sessions[0].Status != "online" {
		t.Errorf("sessions are %+v", of.Sessions)
	}
	p.ask("sessions", map[string]any{"edge": "another"}, &of)
	if len(of.Sessions) != 0 {
		t.Errorf("sessions of no edge are %+v", of.Sessions)
	}
	var edges struct{ Edges []struct{ ID, Name string } }
	p.ask("edges", nil, &edges)
	if len(edges.Edges) != 1 || edges.Edges[0].Name != "edge one" {
		t.Errorf("edges are %+v", edges)
	}
	var status struct {
		Devices, Online int
		Edges           []any
		Streams         []struct{ Name string }
	}
	p.ask("status", nil, &status)
	if status.Devices != 4 || status.Online != 2 || len(status.Edges) != 1 || len(status.Streams) != 9 {
		t.Errorf("status is %+v", status)
	}
}

func TestOneDeviceIsShownWithItsInbox(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	k := p.register(e, "alice/a", "desktop")
	p.coordinate()
	p.publish(subjects.Inbox(k, subjects.High), "1", "Rccs-Id", "one", "Rccs-Type", "note")
	seq := p.publish(subjects.Inbox(k, subjects.Normal), "2")
	name := map[string]any{"user": "alice", "device": "a"}
	var shown struct {
		listed
		Inbox struct{ Stored, Unacknowledged int }
	}
	p.ask("device", name, &shown)
	if shown.name() != "alice/a" || shown.Type != "desktop" || shown.Inbox.Stored != 2 || shown.Inbox.Unacknowledged != 2 {
		t.Errorf("shown as %+v", shown)
	}
	var missed []map[string]any
	p.ask("missed", name, &missed)
	if len(missed) != 2 || missed[0]["id"] != "one" || missed[0]["lane"] != "high" || missed[0]["type"] != "note" || missed[0]["timestamp"] == "" || missed[1]["seq"] != float64(seq) {
		t.Errorf("missed are %v", missed)
	}
	name["from"] = seq
	p.ask("missed", name, &missed)
	if len(missed) != 1 {
		t.Errorf("missed from %d are %v", seq, missed)
	}
	delete(name, "from")
	name["missed"] = true
	var replayed struct{ Copied int }
	p.ask("replay", name, &replayed)
	if got := p.inbox("alice/a"); replayed.Copied != 2 || !slices.Equal(got, []string{"2", "2"}) {
		t.Errorf("replayed %+v: %v", replayed, got)
	}
}

func TestAForgottenDeviceLeavesNothing(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	k := p.register(e, "alice/old", "desktop")
	p.register(e, "alice/new", "desktop")
	p.coordinate()
	p.mark("mine", `{"device":"old"}`)
	p.mark("coming", `{"device":"","next":"old"}`)
	p.mark("other", `{"device":"new"}`)
	p.publish(subjects.Inbox(k, subjects.High), "1")
	p.publish(subjects.Inbox(address("alice/new").Key(), subjects.High), "1")
	later := []string{"Nats-Schedule", "@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "Nats-Schedule-Target", layout.Due(k, subjects.Normal)}
	p.publish(subjects.Later(k, subjects.Normal, "x"), "1", later...)
	asks := slices.Concat(later, []string{subjects.HeaderAck, "true", subjects.HeaderID})
	p.publish(subjects.Later(k, subjects.Normal, "y"), "1", slices.Concat(asks, []string{"y"})...)
	p.publish(subjects.Later(k, subjects.Normal, "z"), "1", slices.Concat(asks, []string{"z", subjects.HeaderFrom, "new", layout.HeaderProof, p.sentBy("new", "z")})...)
	p.publish(layout.Deadline(k), `{"seq":1,"lane":"high","at":"2099-01-01T00:00:00Z"}`)
	var told struct {
		User, Device string
		Messages     int
	}
	if code := p.ask("forget", map[string]string{"user": "alice", "device": "old"}, &told); code != "" || told.Messages != 1 || told.Device != "old" {
		t.Errorf("told %q %+v", code, told)
	}
	for stream, subject := range map[string]string{
		layout.StreamInbox: subjects.Scope{User: "alice", Device: "old"}.Inboxes(), subjects.StreamLater: layout.DeviceLater(k),
		layout.StreamDeadline: layout.Deadline(k),
	} {
		if left := p.stored(stream, subject); len(left) != 0 {
			t.Errorf("%s has %d messages", stream, len(left))
		}
	}
	for task, want := range map[string]string{"mine": "?", "coming": "?", "other": "new"} {
		if got := p.holder(task); got != want {
			t.Errorf("task %s has %q, want %q", task, got, want)
		}
	}
	p.eventually("the record is gone", func() bool { return e.Get(k) == nil })
	p.eventually("services are told", func() bool {
		return len(p.stored(subjects.StreamEvent, subjects.Event(k, subjects.EventForgotten))) == 1
	})
	if got := p.lane("alice/new", subjects.High); len(got) != 1 {
		t.Errorf("another device lost %v", got)
	}
	// Of what was delayed, those who asked are told.
	if got := p.lane("alice/new", subjects.Normal); len(got) != 1 || got[0] != `{"originalMessageId":"z","status":"expired","deviceId":"old","reason":"purged"}` {
		t.Errorf("the device that asked hears %v", got)
	}
	var ended struct{ ID, Reason string }
	if got := p.stored(subjects.StreamEvent, subjects.Event(k, "expired")); len(got) != 1 || json.Unmarshal(got[0].Data, &ended) != nil || ended.ID != "y" || ended.Reason != "purged" {
		t.Errorf("services hear %d events, %+v", len(got), ended)
	}
	var missed []any
	if p.ask("missed", map[string]string{"user": "alice", "device": "old"}, &missed); len(missed) != 0 {
		t.Errorf("missed are %v", missed)
	}
}

// Such a device is unknown, and cannot be forgotten once more.
func TestAForgottenDeviceHoldsNoTaskThoughTheRestFails(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/old", "desktop")
	p.coordinate()
	p.mark("mine", `{"device":"old"}`)
	testkit.Check(t, p.js.DeleteStream(p.ctx(), layout.StreamDeadline))
	if code := p.ask("forget", map[string]string{"user": "alice", "device": "old"}, nil); code == "" {
		t.Error("forgotten, without the stream of deadlines")
	}
	if got := p.holder("mine"); got != "?" {
		t.Errorf("the task has %q", got)
	}
}

func TestSessionsOfADeadEdgeAreEndedOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	e, kill := p.mortalEdge("here")
	watcher := p.edge("there")
	p.connect(e, "alice/a", "desktop")
	p.coordinateTwice()
	key := address("alice/a").Key()
	p.eventually("it is online", func() bool { return watcher.Online(key) })
	kill()                                 // it would store its lease again
	for _, edge := range watcher.Edges() { // as when the lease has run out
		if edge.Name == "here" {
			if err := p.bucket(layout.BucketEdges).Delete(context.WithoutCancel(p.ctx()), edge.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.eventually("services hear that it is offline", func() bool {
		return len(p.stored(subjects.StreamEvent, subjects.Event(key, subjects.EventOffline))) > 0
	})
	if n := len(p.stored(subjects.StreamEvent, subjects.Event(key, subjects.EventOffline))); n != 1 {
		t.Errorf("%d times", n)
	}
}

// A coordinator that is cut off on one of its connections says so to whoever asks.
func TestCoordinatorTellsThatItIsNotWell(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var mu sync.Mutex
	conns := map[string]*nats.Conn{}
	c, err := coordinator.New(coordinator.Options{Dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
		nc, err := p.dial(name, opts...)
		mu.Lock()
		defer mu.Unlock()
		conns[name] = nc
		return nc, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(p.ctx()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.WithoutCancel(t.Context())) })
	unready := func() string {
		var pong struct{ Unready string }
		p.askAt(p.nc, "$SRV.PING.rccs-coordinator", nil, &pong)
		return pong.Unready
	}
	if why := unready(); why != "" {
		t.Fatalf("it is not well: %s", why)
	}
	mu.Lock()
	conns["read"].Close()
	mu.Unlock()
	if why := unready(); why != "the coordinator is not connected to NATS" {
		t.Errorf("told %q", why)
	}
}

// What NATS has sent to a coordinator that stops is answered by it: nobody else
// gets it.
func TestWhatIsAskedWhileACoordinatorStopsIsAnswered(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for range 5 {
		_, stop := p.coordinate()
		answered := natstest.Ask(t, p.nc, subjects.CoordinatorEndpoint("device"), []byte(`{"userId":"alice","deviceId":"phone"}`), 100)
		p.ask("device", map[string]string{"userId": "alice", "deviceId": "phone"}, nil)
		stop()
		answered()
	}
}
