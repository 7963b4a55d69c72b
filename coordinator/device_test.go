package coordinator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// device is a device on plain NATS.
type device struct {
	p    *place
	nc   *nats.Conn
	key  subjects.Key
	name string
}

func (p *place) device(name string) *device {
	p.t.Helper()
	k := address(name).Key()
	return &device{p: p, nc: p.env.Conn(p.t, nats.CustomInboxPrefix(subjects.ReplyPrefix(k))), key: k, name: name}
}

func (d *device) ask(endpoint string, request, into any) string {
	d.p.t.Helper()
	return d.p.askAt(d.nc, subjects.DeviceEndpoint(d.key, endpoint), request, into)
}

// got is an envelope that a device fetched.
type got struct {
	ID, Type, FromDeviceID, UserID, ToDeviceID, Encoding string
	Seq                                                  uint64
	Priority                                             int
	Redelivered                                          bool
	Payload                                              json.RawMessage
}

func (d *device) fetch(request map[string]any) []got {
	d.p.t.Helper()
	var all []got
	if code := d.ask("fetch", request, &all); code != "" {
		d.p.t.Fatalf("fetch: %s", code)
	}
	return all
}

func (d *device) ack(request map[string]any) int {
	d.p.t.Helper()
	var told struct {
		Status       string
		Acknowledged int
	}
	if code := d.ask("ack", request, &told); code != "" || told.Status != "success" {
		d.p.t.Fatalf("ack %v: %s %+v", request, code, told)
	}
	return told.Acknowledged
}

// send returns the answer, and an error code.
func (d *device) send(endpoint string, envelope map[string]any) (wire.Accepted, string) {
	d.p.t.Helper()
	var raw json.RawMessage
	if code := d.ask(endpoint, envelope, &raw); code != "" {
		return wire.Accepted{}, code
	}
	a, err := wire.DecodeAnswer(raw)
	if err != nil {
		d.p.t.Fatal(err)
	}
	return a.Accepted(), ""
}

func payloads(all []got) []string {
	var list []string
	for _, e := range all {
		list = append(list, string(e.Payload))
	}
	return list
}

func TestADeviceOnPlainNATSFetchesUntilItAcknowledges(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinate()
	d := p.device("alice/my.phone")
	if all := d.fetch(nil); len(all) != 0 {
		t.Errorf("fetched %v from nothing", all)
	}
	p.publish(subjects.Inbox(d.key, subjects.Low), `"low"`, "Rccs-Id", "l", "Rccs-Type", "note", "Rccs-From", "desk")
	for i := range 3 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), strconv.Itoa(i))
	}
	p.publish(subjects.Inbox(address("alice/other").Key(), subjects.Critical), "9")
	p.publish(subjects.Inbox(d.key, subjects.Critical), "no JSON")
	all := d.fetch(map[string]any{"limit": 3})
	if want := []string{`"bm8gSlNPTg=="`, "0", "1"}; !slices.Equal(payloads(all), want) {
		t.Fatalf("fetched %v", payloads(all))
	}
	if e := all[0]; e.Encoding != "base64" || e.Priority != 3 || e.UserID != "alice" || e.ToDeviceID != "my.phone" || e.FromDeviceID != "service:nats" || e.Seq == 0 || e.Redelivered {
		t.Errorf("fetched %+v", e)
	}
	if n := d.ack(map[string]any{"seq": all[1].Seq}); n != 1 {
		t.Errorf("acknowledged %d", n)
	}
	again := d.fetch(nil)
	if want := []string{`"bm8gSlNPTg=="`, "1", "2", `"low"`}; !slices.Equal(payloads(again), want) {
		t.Fatalf("fetched %v", payloads(again))
	}
	for i, e := range again {
		if e.Redelivered != (i < 2) {
			t.Errorf("%s is redelivered: %t", e.Payload, e.Redelivered)
		}
	}
	if e := again[3]; e.ID != "l" || e.Type != "note" || e.FromDeviceID != "desk" {
		t.Errorf("fetched %+v", e)
	}
	if n := d.ack(map[string]any{"seqs": []uint64{again[0].Seq, again[0].Seq, 999}}); n != 1 {
		t.Errorf("acknowledged %d", n)
	}
	if n := d.ack(map[string]any{"upTo": 999}); n != 3 {
		t.Errorf("acknowledged %d", n)
	}
	if all := d.fetch(nil); len(all) != 0 {
		t.Errorf("fetched %v after all is acknowledged", all)
	}
	p.publish(subjects.Inbox(d.key, subjects.Low), `"next"`) // below 999, and not acknowledged by it
	if all := d.fetch(nil); !slices.Equal(payloads(all), []string{`"next"`}) {
		t.Errorf("fetched %v", payloads(all))
	}
}

func TestUpToAcknowledgesOnlyWhatWasFetched(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	p.publish(subjects.Inbox(d.key, subjects.Low), `"early and low"`)
	high := p.publish(subjects.Inbox(d.key, subjects.High), `"late and high"`)
	if all := d.fetch(map[string]any{"limit": 1}); len(all) != 1 || all[0].Seq != high {
		t.Fatalf("fetched %v", payloads(all))
	}
	if n := d.ack(map[string]any{"upTo": high}); n != 1 {
		t.Errorf("acknowledged %d", n)
	}
	if all := d.fetch(nil); !slices.Equal(payloads(all), []string{`"early and low"`}) {
		t.Errorf("fetched %v", payloads(all))
	}
}

func TestFetchWaitsForSomethingToCome(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, stop := p.coordinate()
	d := p.device("alice/phone")
	begin := time.Now()
	if all := d.fetch(map[string]any{"wait": 100}); len(all) != 0 || time.Since(begin) < 100*time.Millisecond {
		t.Errorf("fetched %v after %v", payloads(all), time.Since(begin))
	}
	var wg sync.WaitGroup
	var all []got
	begin = time.Now()
	wg.Go(func() { all = d.fetch(map[string]any{"wait": 30_000}) })
	p.eventually("the fetch waits", func() bool {
		return p.requests("device-fetch") >= 1 // more if the first was asked twice
	})
	p.publish(subjects.Inbox(d.key, subjects.Normal), "1")
	wg.Wait()
	if len(all) != 1 || time.Since(begin) > 25*time.Second { // not at the end of the 30 s
		t.Errorf("fetched %v after %v", payloads(all), time.Since(begin))
	}
	d.ack(map[string]any{"upTo": all[0].Seq})
	answered := make(chan *nats.Msg, 1)
	sub, err := d.nc.ChanSubscribe(subjects.ReplyPrefix(d.key)+".mine", answered)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := d.nc.PublishRequest(subjects.DeviceEndpoint(d.key, "fetch"), subjects.ReplyPrefix(d.key)+".mine", []byte(`{"wait":20000}`)); err != nil {
		t.Fatal(err)
	}
	d.ack(map[string]any{"upTo": 1}) // behind it on the connection
	stop()
	select {
	case m := <-answered:
		if string(m.Data) != "[]" {
			t.Errorf("answered %q at the end", m.Data)
		}
	case <-time.After(patience):
		t.Error("not answered at the end")
	}
}

// requests is how many requests of an endpoint are finished.
func (p *place) requests(endpoint string) int {
	p.t.Helper()
	var stats struct {
		Endpoints []struct {
			Name     string `json:"name"`
			Requests int    `json:"num_requests"`
		}
	}
	p.askAt(p.nc, "$SRV.STATS", nil, &stats)
	for _, e := range stats.Endpoints {
		if e.Name == endpoint {
			return e.Requests
		}
	}
	return -1
}

func TestTheCursorIsTheEdgesWhileTheDeviceIsConnected(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.coordinate()
	d := p.device("alice/phone")
	p.publish(subjects.Inbox(d.key, subjects.Normal), "1")
	all := d.fetch(nil)
	s := p.connect(e, d.name, "mobile")
	p.eventually("it is refused", func() bool { return d.ask("ack", map[string]any{"seq": all[0].Seq}, nil) == "PERMISSION_DENIED" })
	if code := d.ask("fetch", nil, nil); code != "PERMISSION_DENIED" {
		t.Errorf("fetch: %q", code)
	}
	s.Close(false, nil)
	p.eventually("it is allowed again", func() bool { return d.ask("ack", map[string]any{"seq": all[0].Seq}, nil) == "" })
	if all := d.fetch(nil); len(all) != 0 {
		t.Errorf("fetched %v", payloads(all))
	}
}

// polled receives from a mailbox that is looked at again and again.
type polled struct{}

func (polled) MessagesReady()              {}
func (polled) Evicted()                    {}
func (polled) Fits(*envelope.Message) bool { return true }
func (polled) Acked(uint64, time.Duration) {}

// attach is a device's inbox on an edge.
func (p *place) attach(k subjects.Key) *inbox.Mailbox {
	p.t.Helper()
	p.pub.Proof = p.proof()
	hub, err := inbox.New(inbox.Options{Read: p.env.Conn(p.t), Fetch: p.env.Conn(p.t), Publish: p.pub})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := hub.Start(p.ctx()); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := hub.Stop(context.WithoutCancel(p.t.Context())); err != nil {
			p.t.Error(err)
		}
	})
	box, err := hub.Attach(p.ctx(), k, polled{}, inbox.MailboxOptions{Window: 10})
	if err != nil {
		p.t.Fatal(err)
	}
	return box
}

// What a device has fetched it may acknowledge on a connection, before the edge has sent
// it again: the sender hears so all the same.
func TestTheSenderHearsWhatWasFetchedAndIsAcknowledgedAtAnEdge(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	seq := p.asked(d.key, subjects.Normal, "1")
	d.fetch(nil)
	box := p.attach(d.key)
	box.Ack(seq)
	p.eventually("the sender hears it", func() bool {
		box.Next(nil, 10, 1<<20)
		return slices.Equal(p.told(), []string{"1 delivered "})
	})
}

func TestAnEdgeGoesOnWhereAFetchEnded(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	for i := range 4 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), strconv.Itoa(i))
	}
	all := d.fetch(map[string]any{"limit": 2})
	d.ack(map[string]any{"seq": all[0].Seq})
	box := p.attach(d.key)
	var found []string
	p.eventually("the edge has it all", func() bool {
		for _, m := range box.Next(nil, 10, 1<<20) {
			found = append(found, fmt.Sprintf("%s %t", m.Data, m.Redelivered))
		}
		return len(found) >= 3
	})
	if want := []string{"1 true", "2 false", "3 false"}; !slices.Equal(found, want) {
		t.Errorf("the edge gives out %v", found)
	}
}

func TestWhatExpiredIsNotFetchedAndItsSenderIsTold(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	p.publish(subjects.Inbox(d.key, subjects.Normal), "1", "Rccs-Ttl-Ms", "1", "Rccs-From", "desk", "Rccs-Ack", "true", "Rccs-Id", "i", "Rccs-Proof", p.sentBy("desk", "i"))
	p.publish(subjects.Inbox(d.key, subjects.Normal), "2", "Rccs-From", "desk", "Rccs-Ack", "true", "Rccs-Id", "j", "Rccs-Proof", p.sentBy("desk", "j"))
	var all []got
	p.eventually("the first is over", func() bool {
		all = d.fetch(nil)
		return len(all) == 1 && string(all[0].Payload) == "2"
	})
	d.ack(map[string]any{"seq": all[0].Seq})
	var told []string
	for _, body := range p.inbox("alice/desk") {
		a, err := wire.DecodeAnswer([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		o := a.Outcome()
		told = append(told, fmt.Sprintf("%s %s %s", o.OriginalID, o.Status, o.DeviceID))
	}
	slices.Sort(told)
	if want := []string{"i expired phone", "j delivered phone"}; !slices.Equal(told, want) {
		t.Errorf("told %v", told)
	}
}

func TestAGapIsToldOfWhatIsGone(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	var seqs []uint64
	for i := range 5 {
		seqs = append(seqs, p.publish(subjects.Inbox(d.key, subjects.Normal), strconv.Itoa(i)))
	}
	d.fetch(map[string]any{"limit": 4})
	s, err := p.js.Stream(p.ctx(), layout.StreamInbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{seqs[0], seqs[1], seqs[3]} {
		if err := s.DeleteMsg(p.ctx(), seq); err != nil {
			t.Fatal(err)
		}
	}
	var types []string
	for _, e := range d.fetch(nil) {
		types = append(types, e.Type+" "+string(e.Payload))
	}
	want := []string{
		fmt.Sprintf(`gap {"lane":"normal","from":%d,"to":%d,"count":2,"reason":"retention"}`, seqs[0], seqs[1]),
		fmt.Sprintf(`gap {"lane":"normal","from":%d,"to":%d,"count":1,"reason":"purged"}`, seqs[3], seqs[3]),
		"notification 2", "notification 4",
	}
	if !slices.Equal(types, want) {
		t.Errorf("fetched %v", types)
	}
	// They come again with what was not acknowledged, like the messages, and not
	// once that is.
	again := d.fetch(nil)
	if len(again) != 4 {
		t.Errorf("then fetched %v", payloads(again))
	}
	d.ack(map[string]any{"seq": seqs[2]})
	d.ack(map[string]any{"seq": seqs[4]})
	if got := d.fetch(nil); len(got) != 0 {
		t.Errorf("after the acknowledgement fetched %v", payloads(got))
	}
}

func TestFetchKeepsToWhatOneMessageCanHold(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	big := `"` + strings.Repeat("x", 600_000) + `"`
	for range 3 {
		p.publish(subjects.Inbox(d.key, subjects.Normal), big)
	}
	for range 3 {
		all := d.fetch(nil)
		if len(all) != 1 || len(all[0].Payload) != len(big) {
			t.Fatalf("fetched %d messages", len(all))
		}
		d.ack(map[string]any{"seq": all[0].Seq})
	}
}

// A message that no answer can hold stops nothing behind it. It ends as it does for a
// device on an edge: the device is told, its sender is, and operators have it.
func TestAMessageTooLargeToFetchStopsNothing(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	big := p.publish(subjects.Inbox(d.key, subjects.Normal), strings.Repeat("\x00", 1<<20), "Rccs-Id", "big", // more in base64
		"Rccs-Ack", "true", "Rccs-From", "desk", "Rccs-Proof", p.sentBy("desk", "big"))
	p.publish(subjects.Inbox(d.key, subjects.Normal), "1")
	all := d.fetch(nil)
	want := fmt.Sprintf(`{"lane":"normal","from":%d,"to":%d,"count":1,"reason":"tooLarge"}`, big, big)
	if len(all) != 2 || all[0].Type != "gap" || string(all[0].Payload) != want || string(all[1].Payload) != "1" {
		t.Fatalf("fetched %v", payloads(all))
	}
	d.ack(map[string]any{"upTo": all[1].Seq})
	if all = d.fetch(nil); len(all) != 0 {
		t.Errorf("then fetched %v", payloads(all))
	}
	told := p.inbox("alice/desk")
	if len(told) != 1 {
		t.Fatalf("the sender was told %v", told)
	}
	a, err := wire.DecodeAnswer([]byte(told[0]))
	if o := a.Outcome(); err != nil || o.OriginalID != "big" || o.Status != wire.StatusUndeliverable || o.Reason != wire.ReasonTooLarge {
		t.Errorf("the sender was told %+v, %v", o, err)
	}
	if kept := p.stored(subjects.StreamEvent, subjects.Event(d.key, "undeliverable")); len(kept) != 1 {
		t.Errorf("%d messages are kept", len(kept))
	}
}

func TestADeviceOnPlainNATSSendsAsThroughAnEdge(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.register(e, "alice/watch", "watch")
	p.connect(e, "alice/editor", "extension")
	p.register(e, "bob/desk", "desktop")
	p.coordinate()
	d := p.device("alice/phone")
	p.eventually("all is known", func() bool {
		var of struct{ Devices []listed }
		p.ask("devices", map[string]any{"user": "alice"}, &of)
		return len(of.Devices) == 3 && slices.ContainsFunc(of.Devices, func(l listed) bool { return l.Status == "online" })
	})
	for i, c := range []struct {
		endpoint string
		envelope map[string]any
		want     string // recipients, or a code
	}{
		{"send", map[string]any{"type": "user_message", "payload": 1}, "desk editor watch"},
		{"send", map[string]any{"type": "note", "payload": 1, "toDeviceId": "desk", "priority": 3}, "desk"},
		{"send", map[string]any{"type": "note", "payload": 1, "toDeviceId": "phone", "fromDeviceId": "phone", "userId": "alice"}, "DEVICE_NOT_FOUND"},
		{"send", map[string]any{"type": "note", "payload": 1, "to": map[string]any{"mode": "any"}}, "editor"},
		{"send", map[string]any{"type": "note", "payload": 1, "to": map[string]any{"mode": "any", "deviceType": "watch"}}, ""},
		{"send", map[string]any{"type": "task_start", "payload": map[string]any{"taskId": "t"}}, "editor"},
		{"send", map[string]any{"type": "note", "payload": 1, "ephemeral": true}, "editor"},
		{"send", map[string]any{"type": "note", "payload": 1, "toDeviceId": "desk", "deliverAt": time.Now().Add(time.Hour)}, "desk"},
		{"send", map[string]any{"type": "note", "payload": 1, "to": map[string]any{"service": true}}, ""},
		{"up", map[string]any{"type": "note", "payload": 1}, ""},
		{"up", map[string]any{"type": "note", "payload": 1, "toDeviceId": "desk"}, "BAD_MESSAGE"},
		{"send", map[string]any{"type": "note", "payload": 1, "fromDeviceId": "desk"}, "IDENTITY_MISMATCH"},
		{"send", map[string]any{"type": "note", "payload": 1, "userId": "bob"}, "IDENTITY_MISMATCH"},
		{"send", map[string]any{"type": "device_list", "payload": 1}, "BAD_MESSAGE"},
		{"send", map[string]any{"type": "note"}, "BAD_MESSAGE"},
		{"send", map[string]any{"type": "note", "payload": 1, "ephemeral": true, "deliverAt": time.Now()}, "BAD_MESSAGE"},
	} {
		c.envelope["id"] = "m" + strconv.Itoa(i)
		a, code := d.send(c.endpoint, c.envelope)
		var to []string
		for _, r := range a.Recipients {
			to = append(to, string(r.DeviceID))
			if later := c.envelope["deliverAt"] != nil || c.envelope["ephemeral"] != nil; (r.Seq == 0) != later {
				t.Errorf("%v: seq %d", c.envelope, r.Seq)
			}
		}
		if got := code + strings.Join(to, " "); got != c.want || code == "" && a.OriginalID != c.envelope["id"] {
			t.Errorf("%v: %q, want %q", c.envelope, got, c.want)
		}
	}
	if code := d.ask("send", []int{}, nil); code != "BAD_FRAME" {
		t.Errorf("an array is %q", code)
	}
	if got := p.holder("t"); got != "editor" {
		t.Errorf("the task belongs to %q", got)
	}
	if got := p.lane("alice/desk", subjects.Critical); len(got) != 1 {
		t.Errorf("the critical lane holds %v", got)
	}
	if got := p.stored(subjects.StreamUp, subjects.Up(d.key, "note")); len(got) != 2 {
		t.Errorf("services get %d messages", len(got))
	}
	if got := p.stored(subjects.StreamLater, layout.DeviceLater(address("alice/desk").Key())); len(got) != 1 {
		t.Errorf("%d messages are delayed", len(got))
	}
	if got := p.inbox("bob/desk"); len(got) != 0 {
		t.Errorf("another user got %v", got)
	}
	a, _ := d.send("send", map[string]any{"id": "m0", "type": "note", "payload": 1, "toDeviceId": "desk"})
	if !a.Duplicate || len(a.Recipients) != 3 {
		t.Errorf("a repeat is answered with %+v", a)
	}
	p.connect(e, "alice/watch", "watch")
	p.eventually("what waited is given out", func() bool { return len(p.inbox("alice/watch")) == 2 })
}

func TestATaskSentOverPlainNATSWaitsToo(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.coordinate()
	d := p.device("alice/phone")
	p.eventually("the device is known", func() bool {
		var of struct{ Devices []listed }
		p.ask("devices", nil, &of)
		return len(of.Devices) == 1
	})
	for i := range 5 {
		a, code := d.send("send", map[string]any{"id": strconv.Itoa(i), "type": "task_status", "payload": map[string]any{"taskId": "t", "n": i}})
		if code != "" || len(a.Recipients) != 0 {
			t.Fatalf("answered with %q %+v", code, a)
		}
	}
	p.connect(e, "alice/desk", "desktop")
	p.eventually("the task has its device", func() bool { return p.holder("t") == "desk" })
	var want []string
	for i := range 6 {
		want = append(want, fmt.Sprintf(`{"n":%d,"taskId":"t"}`, i))
	}
	a, code := d.send("send", map[string]any{"id": "5", "type": "task_status", "payload": map[string]any{"taskId": "t", "n": 5}})
	if code != "" || len(a.Recipients) != 1 || a.Recipients[0].DeviceID != "desk" {
		t.Errorf("answered with %q %+v", code, a)
	}
	if got := p.inbox("alice/desk"); !slices.Equal(got, want) {
		t.Errorf("the device got %v", got)
	}
}
