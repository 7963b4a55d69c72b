package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/devicetest"
)

// object is a JSON object to send.
type object = map[string]any

// envelope is what a device receives, as section 2 of the protocol has it.
type envelope struct {
	ID            string          `json:"id"`
	Type          string          `json:"type"`
	FromDeviceID  string          `json:"fromDeviceId"`
	UserID        string          `json:"userId"`
	ToDeviceID    string          `json:"toDeviceId"`
	Payload       json.RawMessage `json:"payload"`
	Timestamp     string          `json:"timestamp"`
	Priority      *int            `json:"priority"`
	CorrelationID string          `json:"correlationId"`
	Traceparent   string          `json:"traceparent"`
	Seq           uint64          `json:"seq"`
	Redelivered   bool            `json:"redelivered"`
	Replay        bool            `json:"replay"`
	Partial       bool            `json:"partial"`
	Encoding      string          `json:"encoding"`
	Topic         string          `json:"topic"`

	raw   string // as it came
	frame int    // which text frame it came in
	array bool   // the frame was an array
}

// device is a connection to the edge, registered or not. Its methods fail the
// test, but for receive and write, which other goroutines may use.
type device struct {
	t    testing.TB
	name string // USER/DEVICE
	ws   *websocket.Conn

	challenge challenge
	session   answer

	write sync.Mutex
	in    chan envelope // closed when the connection has ended
	early []envelope    // came while something of the other kind was waited for
	end   error         // why; read after in is closed
	pings chan string   // payloads of pings that came
	pongs chan string
	over  chan struct{}
	gone  chan struct{} // the reader has ended
	acker chan struct{} // what acknowledges outcomes has ended

	// Two kinds come on their own and are kept apart from the rest: what is
	// told of other devices, and what became of messages sent. The latter are
	// durable; they are acknowledged at once.
	presence chan envelope
	outcomes chan envelope
	unacked  chan uint64 // outcomes to acknowledge; there is room for all that the largest window allows
}

// dialing says how a connection is made.
type dialing struct {
	path        string // instead of /v1/ws
	header      http.Header
	subprotocol string // "-" for none, empty for rccs.v1
	readBuffer  int    // of the socket, in bytes; 0 for the system's
	deaf        bool   // pings are not answered, as by a peer that is gone
}

// dial connects and does nothing more.
func dial(t testing.TB, s *server, how dialing) *device {
	t.Helper()
	d, err := tryDial(t, s, how)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tryDial(t testing.TB, s *server, how dialing) (*device, error) {
	by := devicetest.How{Header: how.header, ReadBuffer: how.readBuffer}
	switch how.subprotocol {
	case "":
	case "-":
		by.Subprotocols = []string{}
	default:
		by.Subprotocols = []string{how.subprotocol}
	}
	url := s.Devices
	if how.path != "" {
		url = url[:len(url)-len("/v1/ws")] + how.path
	}
	ws, _, err := devicetest.Dial(context.WithoutCancel(t.Context()), url, by) //nolint:bodyclose // Dial has closed it; a clean-up may dial too
	if err != nil {
		return nil, err
	}
	d := &device{
		t: t, ws: ws, in: make(chan envelope),
		pings: make(chan string, 64), pongs: make(chan string, 64), over: make(chan struct{}), gone: make(chan struct{}), acker: make(chan struct{}),
		presence: make(chan envelope, 4096), outcomes: make(chan envelope, 4096), unacked: make(chan uint64, 4096),
	}
	ws.SetPingHandler(func(payload string) error {
		note(d.pings, payload)
		if how.deaf {
			return nil
		}
		return ws.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(patience))
	})
	ws.SetPongHandler(func(payload string) error {
		note(d.pongs, payload)
		return nil
	})
	go d.read()
	go d.ackOutcomes()
	t.Cleanup(d.close)
	return d, nil
}

// note keeps a control frame for whoever looks, and drops it when nobody does.
func note(c chan string, payload string) {
	select {
	case c <- payload:
	default:
	}
}

// close cuts the connection without a word, and returns when its reader ended.
func (d *device) close() {
	d.write.Lock()
	select {
	case <-d.over:
	default:
		close(d.over)
	}
	d.write.Unlock()
	_ = d.ws.Close()
	<-d.gone
	<-d.acker
}

// read hands on one envelope after the other. It takes nothing from the socket
// while nobody takes what it has: a test that does not look is a device that
// does not read.
func (d *device) read() {
	defer close(d.gone)
	defer close(d.in)
	for frame := 0; ; frame++ {
		kind, data, err := d.ws.ReadMessage()
		if err != nil {
			d.end = err
			return
		}
		if kind != websocket.TextMessage {
			d.end = fmt.Errorf("a frame of kind %d came: %q", kind, data)
			return
		}
		envelopes, err := parseFrame(data)
		if err != nil {
			d.end = fmt.Errorf("%w in frame %.2000q", err, data)
			return
		}
		for _, e := range envelopes {
			e.frame = frame
			if d.aside(e) {
				continue
			}
			select {
			case d.in <- e:
			case <-d.over:
				return
			}
		}
	}
}

// aside keeps what comes on its own; false for the rest.
func (d *device) aside(e envelope) bool {
	to := d.presence
	switch {
	case e.Type == "presence":
	case e.Type == "ack" && e.Seq > 0:
		to = d.outcomes
		select {
		case d.unacked <- e.Seq:
		case <-d.over:
		}
	default:
		return false
	}
	select {
	case to <- e:
	default: // nobody looks
	}
	return true
}

// ackOutcomes acknowledges outcomes. The reader must not: an edge that is not read
// does not read either, and a reader that waits for room to write would wait for
// itself.
func (d *device) ackOutcomes() {
	defer close(d.acker)
	for {
		select {
		case seq := <-d.unacked:
			_ = d.post(fmt.Sprintf(`{"type":"ack","payload":{"seq":%d}}`, seq)) // a connection that has ended is noticed otherwise
		case <-d.over:
			return
		}
	}
}

// outcome is the next word on what became of a message sent.
func (d *device) outcome() outcome {
	d.t.Helper()
	var o outcome
	decode(d.t, d.told(d.outcomes, "outcome").Payload, &o)
	return o
}

// heard is the next word on another device.
func (d *device) heard() presence {
	d.t.Helper()
	var p presence
	decode(d.t, d.told(d.presence, "presence").Payload, &p)
	return p
}

func (d *device) told(from chan envelope, what string) envelope {
	d.t.Helper()
	select {
	case e := <-from:
		return e
	case <-time.After(patience):
		d.t.Fatalf("%s: no %s came", d.name, what)
		return envelope{}
	}
}

type outcome struct {
	OriginalMessageID string `json:"originalMessageId"`
	Status            string `json:"status"`
	DeviceID          string `json:"deviceId"`
	DeliveredAt       string `json:"deliveredAt"`
	Reason            string `json:"reason"`
}

type presence struct {
	DeviceID string `json:"deviceId"`
	Status   string `json:"status"`
	Type     string `json:"type"`
	LastSeen string `json:"lastSeen"`
}

func parseFrame(data []byte) ([]envelope, error) {
	elements, array := []json.RawMessage{data}, false
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		array = true
		if err := json.Unmarshal(data, &elements); err != nil {
			return nil, err
		}
	}
	envelopes := make([]envelope, len(elements))
	for i, raw := range elements {
		if err := json.Unmarshal(raw, &envelopes[i]); err != nil {
			return nil, err
		}
		envelopes[i].raw, envelopes[i].array = string(raw), array
	}
	return envelopes, nil
}

var errLate = errors.New("nothing came")

// receive returns the next envelope, or why there is none.
func (d *device) receive() (envelope, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case e, ok := <-d.in:
		if !ok {
			return e, fmt.Errorf("%s: the connection ended: %w", d.name, d.end)
		}
		return e, nil
	case <-late.C:
		return envelope{}, fmt.Errorf("%s: %w within %v", d.name, errLate, patience)
	}
}

// next is the next envelope, whatever it is, in the order in which they came.
func (d *device) next() envelope {
	d.t.Helper()
	if len(d.early) > 0 {
		e := d.early[0]
		d.early = d.early[1:]
		return e
	}
	e, err := d.receive()
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// durable is whether the device has to acknowledge an envelope.
func (e envelope) durable() bool { return e.Seq > 0 }

// pick is the next envelope that is durable, or the next that is not. The two
// kinds have no order between them. The others are kept.
func (d *device) pick(durable bool) envelope {
	d.t.Helper()
	for i, e := range d.early {
		if e.durable() == durable {
			d.early = slices.Delete(d.early, i, i+1)
			return e
		}
	}
	for {
		e, err := d.receive()
		if err != nil {
			d.t.Fatal(err)
		}
		if e.durable() == durable {
			return e
		}
		if e.Type == "error" {
			d.t.Fatalf("%s: want a message, got %s", d.name, e.raw)
		}
		d.early = append(d.early, e)
	}
}

// message is the next durable message.
func (d *device) message() envelope {
	d.t.Helper()
	e := d.pick(true)
	if e.Type == "ack" || e.Type == "error" {
		d.t.Fatalf("%s: want a message, got %s", d.name, e.raw)
	}
	return e
}

// post writes text as one frame.
func (d *device) post(text string) error {
	d.write.Lock()
	defer d.write.Unlock()
	return d.ws.WriteMessage(websocket.TextMessage, []byte(text))
}

// sendText writes text as one frame.
func (d *device) sendText(text string) {
	d.t.Helper()
	if err := d.post(text); err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
}

// send writes a value as one frame.
func (d *device) send(v any) {
	d.t.Helper()
	d.sendText(encode(d.t, v))
}

// encode is JSON as a careful client writes it.
func encode(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// ack acknowledges messages.
func (d *device) ack(seqs ...uint64) {
	d.t.Helper()
	d.acknowledge(object{"seqs": seqs})
}

// acknowledge sends an ack with a payload.
func (d *device) acknowledge(payload object) {
	d.t.Helper()
	d.send(object{"id": newID(), "type": "ack", "payload": payload})
}

// silent fails the test when anything comes for a while.
func (d *device) silent(while time.Duration) {
	d.t.Helper()
	if len(d.early) > 0 {
		d.t.Fatalf("%s: want nothing, got %s", d.name, d.early[0].raw)
	}
	select {
	case e, ok := <-d.in:
		if !ok {
			d.t.Fatalf("%s: the connection ended: %v", d.name, d.end)
		}
		d.t.Fatalf("%s: want nothing, got %s", d.name, e.raw)
	case <-time.After(while):
	}
}

// wantClose reads to the end of the connection, which must be a close frame
// with a code and nothing before it.
func (d *device) wantClose(code int) {
	d.t.Helper()
	for _, e := range d.early {
		if !e.durable() {
			d.t.Fatalf("%s: before close %d came %s", d.name, code, e.raw)
		}
	}
	e, err := d.receive()
	if err == nil {
		d.t.Fatalf("%s: want close %d, got %s", d.name, code, e.raw)
	}
	if !closedWith(err, code) {
		d.t.Fatalf("%s: want close %d, got %v", d.name, code, err)
	}
}

// closedWith is whether a connection ended with a close frame with a code.
func closedWith(err error, code int) bool {
	var closed *websocket.CloseError
	return errors.As(err, &closed) && closed.Code == code
}

var ids atomic.Uint64

// newID is an id that no other message of this run has.
func newID() string {
	return "id-" + strconv.FormatUint(ids.Add(1), 10)
}
