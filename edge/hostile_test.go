package edge_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Compression is not offered, so that no small frame becomes a large one; a
// frame that says that it is compressed ends the connection.
func TestCompressionIsNotOffered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ws, resp, err := devicetest.Dial(t.Context(), devicetest.URL(w.addr), devicetest.How{Compress: true}) //nolint:bodyclose // Dial has closed it
	check(t, err)
	t.Cleanup(func() { _ = ws.Close() })
	if got := resp.Header.Get("Sec-Websocket-Extensions"); got != "" {
		t.Errorf("the edge agreed to %q", got)
	}
	d := w.connect()
	if _, err := d.Raw().Write([]byte{0xC1, 0x80 | 3, 0, 0, 0, 0, 'a', 'b', 'c'}); err != nil { // RSV1
		t.Fatal(err)
	}
	if code := d.CloseCode(); code != websocket.CloseProtocolError {
		t.Errorf("closed with %d, want %d", code, websocket.CloseProtocolError)
	}
}

// A client that sends its first frame byte by byte has no more time than one that
// is silent.
func TestDrippedFrameDoesNotPutOffTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.RegisterWithin = time.Second })
	d := w.dial()
	began := time.Now()
	nc := d.Raw()
	_, err := nc.Write([]byte{0x81, 0x80 | 126, 0x80, 0, 0, 0, 0, 0}) // of 32 KiB
	drip := time.NewTicker(20 * time.Millisecond)
	defer drip.Stop()
	for ; err == nil && time.Since(began) < within; <-drip.C {
		_, err = nc.Write([]byte(" "))
	}
	if err == nil {
		t.Errorf("still open after %s", within)
	}
}

// injected is what a field holds that would become a header or a command of
// its own, if it went to NATS as it is.
const injected = `x\r\nEvil: 1\r\n\r\nPUB rccs.inbox.bob.phone.normal 1\r\n1\r\n`

// traffic is all that goes over a tenant's NATS.
type traffic struct {
	mu   sync.Mutex
	msgs []*nats.Msg
}

func (w *world) traffic() *traffic {
	w.t.Helper()
	all, nc := &traffic{}, w.env.Conn(w.t)
	_, err := nc.Subscribe(">", func(m *nats.Msg) {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.msgs = append(all.msgs, m)
	})
	check(w.t, err)
	check(w.t, nc.FlushTimeout(within))
	return all
}

// taken is what has come so far.
func (a *traffic) taken() []*nats.Msg {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.msgs)
}

// ofAlice reports whether a subject is one that a device of alice may cause.
func ofAlice(subject string) bool {
	// Where the user stands, and how many tokens there are.
	for prefix, tokens := range map[string]int{
		"rccs.inbox.": 5, "rccs.cursor.": 4, "rccs.signal.": 4, "rccs.rpc.": 5, "rccs.up.": 5, "rccs.event.": 5, "rccs.later.": 6,
		"rccs.deadline.": 4, "rccs.wait.": 3, "$KV.RCCS_DEVICES.": 4, "$KV.RCCS_SESSIONS.": 4, "$KV.RCCS_TASKS.": 4,
	} {
		rest, ok := strings.CutPrefix(subject, prefix)
		if !ok {
			continue
		}
		return slices.Contains([]string{layout.Watermark, layout.TopicMark, layout.Counted}, subject) || strings.HasPrefix(rest+".", "alice.") && strings.Count(subject, ".") == tokens-1 &&
			!strings.ContainsAny(rest, "*> \t\r\n")
	}
	if topic, ok := subjects.ParseTopic(subject); ok {
		return strings.Contains(topic, "hostile") && !strings.ContainsAny(subject, "*> \t\r\n")
	}
	return !strings.HasPrefix(subject, "rccs.") && !strings.HasPrefix(subject, "$KV.") || strings.HasPrefix(subject, "$KV.RCCS_EDGES.")
}

// mayCarry are the headers of NATS itself that the edge sets. None of them
// takes a value that a device chose, but for the id.
var mayCarry = []string{
	nats.MsgIdHdr, nats.ExpectedLastSubjSeqHdr, "Nats-Schedule", "Nats-Schedule-Target", "Nats-Expected-Last-Subject-Sequence-Subject",
}

// No name and no field of a device's frames reaches another subject, or becomes
// a header or a command of NATS.
func TestNamesAndFieldsStayInTheirSubjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	all := w.traffic()
	phone := w.named("alice/phone")
	names := []string{">", "*", "*.>", "a.b", "a b", "a\tb", "..", "%2E", "normal.>", "$JS.API.STREAM.PURGE.RCCS_INBOX", "../bob/phone", "bob/phone"}
	for _, name := range names {
		w.named("alice/" + name)
	}
	n := 0
	// frame sends one and returns the answer about it.
	frame := func(fields map[string]any) (kind, body string) {
		t.Helper()
		n++
		id, given := fields["id"].(string)
		if !given {
			id = fmt.Sprintf("hostile-%d", n)
			fields["id"] = id
		}
		fields["requiresAck"] = true
		raw, err := json.Marshal(fields)
		check(t, err)
		phone.Send(string(raw))
		for {
			kind, body := phone.Next()
			if kind == "error" || kind == "ack" && strings.Contains(body, id) {
				return kind, body
			}
		}
	}
	for _, name := range names {
		if kind, body := frame(map[string]any{"type": "note", "toDeviceId": name, "payload": name}); kind != "ack" {
			t.Errorf("to %q: %s", name, body)
		}
	}
	var evil string
	check(t, json.Unmarshal([]byte(`"`+injected+`"`), &evil))
	for _, field := range []string{"id", "type", "toDeviceId", "correlationId", "collapseKey", "traceparent", "timestamp", "deliverAt"} {
		fields := map[string]any{"type": "note", "toDeviceId": "phone", "payload": 1}
		fields[field] = evil
		if kind, body := frame(fields); kind != "error" || !strings.Contains(body, "BAD_MESSAGE") {
			t.Errorf("a line in %s: %s", field, body)
		}
	}
	for _, to := range []any{
		map[string]any{"device": evil}, map[string]any{"deviceType": evil}, map[string]any{"capability": evil}, map[string]any{"mode": evil},
	} {
		if kind, body := frame(map[string]any{"type": "note", "to": to, "payload": 1}); kind != "error" || !strings.Contains(body, "BAD_MESSAGE") {
			t.Errorf("a line in %v: %s", to, body)
		}
	}
	// Headers that a device would like to set are fields nobody knows.
	if kind, body := frame(map[string]any{
		"type": "note", "toDeviceId": "phone", "payload": map[string]any{"Nats-Rollup": "all"},
		"headers": map[string]any{"Nats-Rollup": "all"}, "Nats-Rollup": "all", "Nats-TTL": "1s", "Rccs-From": "desktop",
	}); kind != "ack" {
		t.Errorf("unknown fields: %s", body)
	}
	for _, payload := range []any{
		map[string]any{"topic": "hostile.*.>", "data": 1}, map[string]any{"topic": "hostile " + evil, "data": 1},
	} {
		frame(map[string]any{"type": "publish", "payload": payload})
	}
	frame(map[string]any{"type": "hostile.type", "to": map[string]any{"service": true}, "payload": 1})
	for _, method := range []string{"a.b.>", "*", evil} {
		frame(map[string]any{"type": "request", "toDeviceId": "a.b", "payload": map[string]any{"method": method, "timeoutMs": 50}})
	}
	if kind, body := frame(map[string]any{"type": "note", "id": "hostile-last", "toDeviceId": "phone", "payload": 1}); kind != "ack" {
		t.Fatal(body)
	}
	last := func(m *nats.Msg) bool { return m.Header.Get(subjects.HeaderID) == "hostile-last" }
	eventually(t, "the last message", func() bool { return slices.ContainsFunc(all.taken(), last) })
	for _, m := range all.taken() {
		if strings.HasPrefix(m.Subject, "rccs.heard.") {
			continue // the stream itself, of what it has stored
		}
		if !ofAlice(m.Subject) {
			t.Errorf("something went to %q", m.Subject)
		}
		for name := range m.Header {
			if strings.HasPrefix(m.Subject, "rccs.") && !strings.HasPrefix(name, "Rccs-") && name != subjects.HeaderTrace && !slices.Contains(mayCarry, name) {
				t.Errorf("%s carries %s: %q", m.Subject, name, m.Header[name])
			}
		}
		if from := m.Header.Get(subjects.HeaderFrom); from != "" && from != "phone" {
			t.Errorf("%s is from %q", m.Subject, from)
		}
		if bytes.Contains(m.Data, []byte("PUB rccs.inbox.bob")) && strings.HasPrefix(m.Subject, "rccs.inbox.") {
			t.Errorf("%s holds %q", m.Subject, m.Data)
		}
	}
}
