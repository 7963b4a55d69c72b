package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// patience is how long a peer waits for the client.
const patience = testkit.Patience

// peer is the other end of one connection: an edge that follows a script.
type peer struct {
	t    *testing.T
	ws   *websocket.Conn
	n    int // of the connection, from 0
	held []wire.Item
}

// serve starts an edge. script runs for each connection; when it returns, the
// connection is cut, without a close frame.
func serve(t *testing.T, script func(p *peer)) (url string) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	upgrader := websocket.Upgrader{Subprotocols: []string{"rccs.v1"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/ws" {
			t.Errorf("client asked for %s", r.URL.Path)
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		defer func() { _ = ws.Close() }()
		mu.Lock()
		p := &peer{t: t, ws: ws, n: n}
		n++
		mu.Unlock()
		if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Error(err)
		}
		script(p)
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

func (p *peer) send(frames ...string) {
	for _, frame := range frames {
		if err := p.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			p.t.Logf("peer %d cannot write: %v", p.n, err)
		}
	}
}

// close sends a close frame and waits for the answer.
func (p *peer) close(code wire.CloseCode) {
	_ = p.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), code.Reason()))
	p.drain()
}

// drain reads until the client ends the connection and says how.
func (p *peer) drain() wire.CloseCode {
	for {
		if _, _, err := p.ws.ReadMessage(); err != nil {
			if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
				return wire.CloseCode(closed.Code)
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				p.t.Errorf("peer %d: the client did not end the connection", p.n)
			}
			return 0
		}
	}
}

// next is the next envelope from the client; ok is false at the end.
func (p *peer) next() (e wire.Envelope, ok bool) {
	for len(p.held) == 0 {
		_, frame, err := p.ws.ReadMessage()
		if err != nil {
			return e, false
		}
		if p.held, err = wire.DecodeFrame(nil, frame); err != nil {
			p.t.Errorf("the client sent %q: %v", frame, err)
			return e, false
		}
	}
	item := p.held[0]
	p.held = p.held[1:]
	if item.Err != nil {
		p.t.Errorf("the client sent a bad message: %v", item.Err)
	}
	return item.Envelope, true
}

// acks reads until all seqs have been acknowledged. Anything else fails.
func (p *peer) acks(seqs ...uint64) (frames int) {
	missing := slices.Clone(seqs)
	for len(missing) > 0 {
		e, ok := p.next()
		if !ok || e.Type != wire.TypeAck {
			p.t.Errorf("peer %d got %+v while waiting for acks of %v", p.n, e, missing)
			return frames
		}
		a, err := wire.DecodeAck(nil, e.Payload)
		if err != nil {
			p.t.Error(err)
		}
		frames++
		for _, seq := range a.Seqs {
			at := slices.Index(missing, seq)
			if at < 0 {
				p.t.Errorf("peer %d: ack of %d, waiting for %v", p.n, seq, missing)
				return frames
			}
			missing = slices.Delete(missing, at, at+1)
		}
	}
	return frames
}

// readAcks reads until all seqs have been acknowledged, and those of refused
// have been refused; it returns the reasons.
func (p *peer) readAcks(seqs []uint64, refused ...uint64) (reasons []string) {
	p.t.Helper()
	acked := map[uint64]bool{}
	rejected := map[uint64]string{}
	for len(acked) < len(seqs) || len(rejected) < len(refused) {
		e, ok := p.next()
		if !ok || e.Type != wire.TypeAck {
			p.t.Errorf("peer %d got %+v, want acks of %v and refusals of %v", p.n, e, seqs, refused)
			return reasons
		}
		a, err := wire.DecodeAck(nil, e.Payload)
		if err != nil {
			p.t.Error(err)
		}
		for _, seq := range a.Seqs {
			acked[seq] = true
		}
		if a.Reject.Seq != 0 {
			rejected[a.Reject.Seq] = a.Reject.Reason
		}
	}
	for _, seq := range seqs {
		if !acked[seq] {
			p.t.Errorf("peer %d: %d was not acknowledged: %v", p.n, seq, acked)
		}
	}
	for _, seq := range refused {
		reason, ok := rejected[seq]
		if !ok {
			p.t.Errorf("peer %d: %d was not refused: %v", p.n, seq, rejected)
		}
		reasons = append(reasons, reason)
	}
	return reasons
}

// challenge begins the registration.
func (p *peer) challenge() wire.Challenge {
	c := wire.Challenge{Challenge: "c", Nonce: "nonce-1", ServerTime: "2025-01-31T12:00:00.000Z"}
	p.send(string(c.Append(nil, "s1")))
	return c
}

// registered goes through the registration, with these session settings.
func (p *peer) registered(settings ...func(*wire.Registered)) *wire.Register {
	p.t.Helper()
	c := p.challenge()
	e, ok := p.next()
	if !ok || e.Type != wire.TypeRegister || e.ID == "" {
		p.t.Errorf("peer %d got %+v, want a registration", p.n, e)
		return &wire.Register{}
	}
	r, err := wire.DecodeRegister(e.Payload)
	if err != nil {
		p.t.Error(err)
		return &wire.Register{}
	}
	answer := wire.Registered{
		SessionID: subjects.SessionID(fmt.Sprintf("session-%d", p.n)), DeviceID: "phone", UserID: "alice", ServerTime: c.ServerTime,
		Window: 256, HeartbeatIntervalMs: 20_000, MaxMessageBytes: 1 << 20, OriginalMessageID: e.ID,
	}
	for _, set := range settings {
		set(&answer)
	}
	p.send(string(answer.Append(nil)))
	return r
}

// note is a durable message to the device.
func note(seq uint64) string {
	return fmt.Sprintf(`{"type":"note","id":"m%d","fromDeviceId":"desk","userId":"alice","seq":%d,"priority":1,"payload":{"n":%d}}`, seq, seq, seq)
}

// changed is a message with members replaced or added.
func changed(message string, members map[string]any) string {
	all := map[string]any{}
	if err := json.Unmarshal([]byte(message), &all); err != nil {
		return err.Error()
	}
	maps.Copy(all, members)
	text, _ := json.Marshal(all)
	return string(text)
}

// dial connects a device that closes with the test.
func dial(t *testing.T, url string, opts client.Options) *client.Client {
	t.Helper()
	if opts.Token == "" && opts.Credentials == nil {
		opts.Token = "token"
	}
	c, err := client.Dial(testkit.Soon(t), url, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// receive waits for the message with this seq.
func receive(t *testing.T, c *client.Client, seq uint64) *client.Message {
	t.Helper()
	m, err := c.Receive(testkit.Soon(t))
	if err != nil {
		t.Fatalf("waiting for %d: %v", seq, err)
	}
	if m.Seq != seq {
		t.Fatalf("message %d, want %d", m.Seq, seq)
	}
	return m
}

// want is the next envelope from the client, which must be of this type.
func (p *peer) want(typ string) wire.Envelope {
	p.t.Helper()
	e, ok := p.next()
	if !ok || e.Type != typ {
		p.t.Errorf("peer %d got %+v, want a %s", p.n, e, typ)
	}
	return e
}

// refuse answers a message with an error.
func (p *peer) refuse(e wire.Envelope, code wire.Code) {
	p.send(string(wire.NewError(code, "").For(e.ID).Append(nil)))
}

// accept answers a message.
func (p *peer) accept(e wire.Envelope, recipients ...string) {
	a := wire.Accepted{OriginalID: e.ID}
	for _, device := range recipients {
		a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: subjects.DeviceID(device), Seq: 1})
	}
	p.send(string(a.Append(nil)))
}
