package edge_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// small is alice's phone, which takes frames of 1,024 bytes and fails the test on a
// larger one.
func (w *world) small(more string) *device {
	w.t.Helper()
	d := w.dial()
	d.SetReadLimit(1024)
	d.Send(`{"type":"device_register","id":"r","payload":{"authToken":"` + w.token("alice/phone") + `","maxFrameBytes":1024` + more + `}}`)
	if kind, body := d.Next(); kind != "ack" {
		w.t.Fatalf("registered with %s", body)
	}
	return d
}

func TestRegistrationTellsTheLargestFrame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.MaxMessageBytes = 10_000 })
	for asked, want := range map[string]int{"": 15_000, "5000": 5000, "1": 1024, "0": 1024, "-1": 1024, "1e9": 15_000, "99999999999999999999": 15_000} {
		d := w.dial()
		payload := map[string]any{"authToken": w.token("alice/phone")}
		if asked != "" {
			payload["maxFrameBytes"] = json.Number(asked)
		}
		raw, err := json.Marshal(map[string]any{"type": "device_register", "id": "r", "payload": payload})
		check(t, err)
		d.Send(string(raw))
		if _, body := d.Next(); !strings.Contains(body, fmt.Sprintf(`"maxFrameBytes":%d,`, want)) {
			t.Errorf("asked for %q, answered %s, want %d", asked, body, want)
		}
	}
}

// A message of the largest size that may be sent reaches a device of which the
// edge's frames are as large as they are by default.
func TestLargestMessageFitsTheLargestFrame(t *testing.T) {
	t.Parallel()
	const limit = 4096
	w := newWorld(t, func(o *edge.Options) { o.MaxMessageBytes = limit })
	phone, desk := w.named("alice/phone"), w.named("alice/desk")
	desk.SetReadLimit(limit * 3 / 2)
	message := `{"type":"note","id":"m","toDeviceId":"desk","payload":"` + strings.Repeat("x", limit)
	phone.Send(message[:limit-2] + `"}`)
	if f := desk.frame(); f.Type != "note" || len(f.Payload) < limit-100 {
		t.Errorf("got %.100s", f.Payload)
	}
}

func TestPagesOfHistoryFitTheDevicesFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	js := natstest.Streams(t, w.env.Conn(t))
	const n, large = 10, 4
	for i := range n {
		size := 300
		if i == large {
			size = 3000
		}
		for _, subject := range []string{subjects.Inbox(phone, subjects.Normal), "rccs.topic.news"} {
			_, err := js.Publish(t.Context(), subject, []byte(fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", size))))
			check(t, err)
		}
	}
	d := w.small(`,"ackMode":"explicit","window":1`)
	for _, what := range []string{`"topic":"news"`, `"inbox":true`} {
		var all []map[string]any
		for from := uint64(1); ; {
			d.Send(fmt.Sprintf(`{"type":"history","id":"h","payload":{%s,"from":%d}}`, what, from))
			f := d.frame()
			for f.Type != "ack" { // a delivery
				f = d.frame()
			}
			var a answer
			check(t, json.Unmarshal(f.Payload, &a))
			for _, raw := range a.Messages {
				m := map[string]any{}
				check(t, json.Unmarshal(raw, &m))
				all = append(all, m)
			}
			if from = a.Next; from == 0 {
				break
			}
		}
		if len(all) != n {
			t.Fatalf("%s: %d messages, want %d", what, len(all), n)
		}
		for i, m := range all {
			if _, hasPayload := m["payload"]; hasPayload == (i == large) || (m["tooLarge"] == true) != (i == large) {
				t.Errorf("%s: message %d is %.100v", what, i, m)
			}
		}
	}
}

// A history nests what it lists deeper than the message came, and is a frame that
// every decoder takes.
func TestHistoryIsNoDeeperThanAFrame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	js := natstest.Streams(t, w.env.Conn(t))
	const most = wire.MaxDepth - 5 // of a payload, with all that is around it
	for _, depth := range []int{most, most + 1} {
		_, err := js.Publish(t.Context(), "rccs.topic.news", []byte(strings.Repeat("[", depth)+strings.Repeat("]", depth)))
		check(t, err)
	}
	d := w.connect()
	d.Send(`{"type":"history","id":"h","payload":{"topic":"news"}}`)
	_, text, err := d.ReadMessage()
	check(t, err)
	items, err := wire.DecodeFrame(nil, append(append([]byte{'['}, text...), ']'))
	if err != nil || len(items) != 1 {
		t.Fatalf("%d envelopes, %v", len(items), err)
	}
	var a answer
	check(t, json.Unmarshal(items[0].Payload, &a))
	if len(a.Messages) != 2 {
		t.Fatalf("%d messages", len(a.Messages))
	}
	for i, raw := range a.Messages {
		if got := strings.Contains(string(raw), `"tooLarge":true`); got != (i == 1) {
			t.Errorf("message %d: tooLarge %v", i, got)
		}
	}
}

func TestTopicMessageThatDoesNotFitIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	js := natstest.Streams(t, w.env.Conn(t))
	d := w.small("")
	d.subscribe(`{"topic":"news"}`)
	ack, err := js.Publish(t.Context(), "rccs.topic.news", []byte(`"`+strings.Repeat("x", 2000)+`"`))
	check(t, err)
	_, err = js.Publish(t.Context(), "rccs.topic.news", []byte(`"next"`))
	check(t, err)
	gap := d.frame()
	want := fmt.Sprintf(`{"topic":"news","from":%d,"to":%d,"count":1,"reason":"tooLarge"}`, ack.Sequence, ack.Sequence)
	if gap.Type != "gap" || string(gap.Payload) != want {
		t.Errorf("got %s %s, want %s", gap.Type, gap.Payload, want)
	}
	if f := d.frame(); f.Type != "topic" || string(f.Payload) != `"next"` {
		t.Errorf("then %s %s", f.Type, f.Payload)
	}
}

// A gap or an answer that names the topic could not be told.
func TestTopicWhoseNameDoesNotFitIsRefusedByID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.small("")
	for name, short := range map[string]bool{strings.Repeat("x", 128) + strings.Repeat("."+strings.Repeat("x", 127), 3): true, `\"` + strings.Repeat(`\"`, 126) + strings.Repeat("."+strings.Repeat(`\"`, 127), 3): false} {
		for _, ask := range []string{`"subscribe","payload":{"topic":"%s"}`, `"publish","payload":{"topic":"%s","data":1}`, `"history","payload":{"topic":"%s"}`} {
			d.Send(`{"id":"` + strings.Repeat("i", 128) + `","type":` + fmt.Sprintf(ask, name) + `}`)
			f := d.frame()
			for f.Type == "topic" {
				f = d.frame()
			}
			told := f.Type == "error" && strings.Contains(string(f.Payload), "MESSAGE_TOO_LARGE")
			fits := short && !strings.Contains(ask, "history") // of what is listed, more than the topic is told
			if told == fits || !strings.Contains(string(f.Payload), "iii") {
				t.Errorf("%.40s: %s %s", ask, f.Type, f.Payload)
			}
		}
	}
}

// What a device says of itself is left out for one that could not read it.
func TestPresenceLeavesOutWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	small, desk := w.small(""), w.named("alice/desk")
	desk.Send(`{"type":"device_status","id":"c","payload":{"status":"busy","note":"` + strings.Repeat("x", 3000) + `"}}`)
	for {
		kind, body := small.Next()
		if kind == "presence" && strings.Contains(body, "busy") {
			if strings.Contains(body, "note") {
				t.Error("the note is there")
			}
			return
		}
	}
}

func TestRequestThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	small, desk := w.small(""), w.named("alice/desk")
	desk.Send(`{"type":"request","id":"q","toDeviceId":"phone","payload":{"method":"m","params":"` + strings.Repeat("x", 2000) + `"}}`)
	f := desk.frame()
	if f.Type != "error" || !strings.Contains(string(f.Payload), `"code":"MESSAGE_TOO_LARGE"`) || !strings.Contains(string(f.Payload), `"originalMessageId":"q"`) {
		t.Errorf("told %s", f.Payload)
	}
	// A service is told so in the headers of NATS services.
	reply, err := w.env.Conn(t).Request("rccs.rpc.alice.phone.m", []byte(`"`+strings.Repeat("x", 2000)+`"`), within)
	check(t, err)
	if got := reply.Header.Get("Nats-Service-Error-Code"); got != "413" {
		t.Errorf("the service is told %q", got)
	}
	desk.Send(`{"type":"request","id":"q2","toDeviceId":"phone","payload":{"method":"m","params":1}}`)
	if f := small.frame(); f.Type != "request" || f.ID != "q2" {
		t.Errorf("the device got %s %s", f.Type, f.ID)
	}
}

// NATS lets a service ask for any method, and takes such a request to the edge.
func TestRequestWhoseMethodIsNotEscapedIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.named("alice/phone")
	for _, method := range []string{"a:b", "%", "%2e", "file%2eopen", strings.Repeat("m", 129), "%0A"} {
		reply, err := w.env.Conn(t).Request("rccs.rpc.alice.phone."+method, nil, within)
		check(t, err)
		if code, told := reply.Header.Get("Nats-Service-Error-Code"), reply.Header.Get("Nats-Service-Error"); code != "400" || !strings.Contains(told, "method") {
			t.Errorf("%s: the service is told %q %q", method, code, told)
		}
	}
}

// A response that does not fit is refused to its sender, and the request stays
// open for another.
func TestResponseThatDoesNotFitLeavesTheRequestOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	small, desk := w.small(""), w.named("alice/desk")
	small.Send(`{"type":"request","id":"q","toDeviceId":"desk","payload":{"method":"m"}}`)
	f := desk.frame()
	desk.Send(`{"type":"response","id":"a","correlationId":"` + f.ID + `","payload":{"result":"` + strings.Repeat("x", 2000) + `"}}`)
	if e := desk.frame(); e.Type != "error" || !strings.Contains(string(e.Payload), `"code":"MESSAGE_TOO_LARGE"`) || !strings.Contains(string(e.Payload), `"originalMessageId":"a"`) {
		t.Errorf("told %s", e.Payload)
	}
	desk.Send(`{"type":"response","correlationId":"` + f.ID + `","payload":{"result":"less"}}`)
	if f := small.frame(); f.Type != "response" || string(f.Payload) != `{"result":"less"}` {
		t.Errorf("got %s %s", f.Type, f.Payload)
	}
}

// errors is how often an error was told.
func (w *world) errors(code string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	check(w.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "rccs_errors_total" && m.GetLabel()[0].GetValue() == code {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// An error that nobody was told is not counted as told.
func TestErrorsThatNobodyWasToldAreNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 100 {
		d := w.dial()
		w.register(d, "alice/phone") // each takes over from the one before
		d.Send(`[{"type":"device_status","id":"a","payload":{"status":"away"}},{"type":["x"],"id":5,"payload":{}},{"type":"subscribe","payload":[]}]`)
		check(t, d.Close())
	}
	eventually(t, "the end of all", func() bool { return w.edge.Connections() == 0 })
	if got := w.errors("UNAVAILABLE"); got != 0 {
		t.Errorf("%v times UNAVAILABLE is counted as told, and the store is well", got)
	}
}

// Whatever a device asks for before it goes without waiting: the store is well, and
// no operator is told otherwise.
func TestNobodyIsToldUnavailableWhileTheStoreIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	desk := w.named("alice/desk")
	for n := range 6 {
		for name, frame := range framesOfDevices {
			if name == "forget" && n%2 == 0 { // else every other one would find no device
				continue
			}
			d := w.dial()
			w.register(d, "alice/phone") // each takes over from the one before
			d.Send("[" + frame + "," + frame + "]")
			check(t, d.Close())
		}
	}
	check(t, desk.Close())
	eventually(t, "the end of all", func() bool { return w.edge.Connections() == 0 })
	for _, code := range []string{"UNAVAILABLE", "INTERNAL"} {
		if got := w.errors(code); got != 0 {
			t.Errorf("%s is counted %v times", code, got)
		}
	}
}
