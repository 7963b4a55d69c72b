package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Read buffers of a device. One that holds a burst makes it one system call and
// one acknowledgement, as with an SDK; of many devices, most are idle.
const (
	readBuffer = 16 << 10
	idleBuffer = 1 << 10
)

// device is a connected WebSocket. Only the goroutine in read receives and
// acknowledges.
type device struct {
	// Static after construction.
	name Name
	run  *run
	ws   *websocket.Conn
	done chan struct{} // closed when the read loop has ended

	// leaving is set before the connection is closed from here.
	leaving atomic.Bool
	// topic is the flow of what it gets from a topic, where it has subscribed.
	topic atomic.Pointer[flow]
	// gate, if set, keeps the device from reading until it is closed.
	gate atomic.Pointer[chan struct{}]

	// Owned by the read loop.
	buf  []byte
	acks []byte
	seqs []uint64 // to be acknowledged

	mu      sync.Mutex // held for writes
	out     []byte
	waiting map[string]chan control // for an answer, by the id of what is answered
}

// control is what the server sends beside messages of the run.
type control struct {
	Type    string `json:"type"`
	Seq     uint64 `json:"seq"`
	Payload struct {
		Status            string `json:"status"`
		Code              string `json:"code"`
		Message           string `json:"message"`
		OriginalMessageID string `json:"originalMessageId"`
		Pending           int    `json:"pending"`
		Lane, Topic       string
		From, To, Count   uint64
	} `json:"payload"`
}

// idle is called before each wait for the server.
func (d *device) idle() error {
	if err := d.acknowledge(); err != nil {
		return err
	}
	if gate := d.gate.Load(); gate != nil {
		<-*gate
	}
	return nil
}

// stopReading has the device read nothing, until the function that is returned
// is called.
func (d *device) stopReading() (resume func()) {
	gate := make(chan struct{})
	d.gate.Store(&gate)
	return sync.OnceFunc(func() {
		d.gate.Store(nil)
		close(gate)
	})
}

// read deals with what comes until the connection ends.
func (d *device) read() error {
	for {
		_, r, err := d.ws.NextReader()
		if err != nil {
			return err
		}
		d.buf = d.buf[:0]
		for err == nil {
			if len(d.buf) == cap(d.buf) {
				d.buf = append(d.buf, make([]byte, 512)...)[:len(d.buf)]
			}
			var n int
			n, err = r.Read(d.buf[len(d.buf):cap(d.buf)])
			d.buf = d.buf[:len(d.buf)+n]
		}
		for envelope := range envelopes(d.buf) {
			if err := d.receive(envelope); err != nil {
				return err
			}
		}
	}
}

// receive takes one envelope.
func (d *device) receive(envelope []byte) error {
	a, ok := scan(envelope)
	if ok {
		d.toAcknowledge(a.seq)
	} else if err := d.receiveControl(envelope); err != nil {
		return err
	}
	if d.run.opts.AckEach {
		if err := d.acknowledge(); err != nil {
			return err
		}
	}
	if !ok {
		return nil
	}
	return d.run.arrived(d, a)
}

// toAcknowledge notes a sequence, unless nothing is to be acknowledged.
func (d *device) toAcknowledge(seq uint64) {
	if seq > 0 && seq < topicSeqs {
		d.seqs = append(d.seqs, seq)
	}
}

// topicSeqs is where the sequences of topics begin: those are not acknowledged.
const topicSeqs = 1 << 52

func (d *device) receiveControl(frame []byte) error {
	if bytes.Contains(frame, markAccepted) {
		return nil // one for each message that is sent
	}
	var c control
	if err := json.Unmarshal(frame, &c); err != nil {
		return fmt.Errorf("%w in the frame %.200q", err, frame)
	}
	d.toAcknowledge(c.Seq)
	if id := c.Payload.OriginalMessageID; id != "" {
		d.mu.Lock()
		answer := d.waiting[id]
		delete(d.waiting, id)
		d.mu.Unlock()
		if answer != nil {
			answer <- c
			return nil
		}
	}
	switch {
	case c.Type == "error":
		return refusal(c)
	case c.Type == "gap" && c.Payload.Count > 0:
		// Without a count it says only that something may be gone from before;
		// whether that was of this run shows by itself.
		return fmt.Errorf("the server tells of a gap in %s%s: %d messages from %d to %d are gone",
			c.Payload.Lane, c.Payload.Topic, c.Payload.Count, c.Payload.From, c.Payload.To)
	}
	return nil
}

// refusal is what the server said, and what can be done.
func refusal(c control) error {
	hint := ""
	switch c.Payload.Code {
	case "QUEUE_FULL":
		hint = " (more is sent to a device than it takes: a lower --rate or a shorter --duration)"
	case "RATE_LIMITED":
		hint = " (the edge bounds what a device or a user may send: a lower --rate, more --devices, or other bounds of 'rccs serve')"
	case "DEVICE_NOT_FOUND":
		hint = " (did something else forget the devices of this run?)"
	}
	return fmt.Errorf("the server says %s: %s%s", c.Payload.Code, c.Payload.Message, hint)
}

// acknowledge says what has been received since the last time.
func (d *device) acknowledge() error {
	if len(d.seqs) == 0 {
		return nil
	}
	b := append(d.acks[:0], `{"type":"ack","payload":{"seqs":[`...)
	for i, seq := range d.seqs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, seq, 10)
	}
	d.acks, d.seqs = append(b, `]}}`...), d.seqs[:0]
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ws.WriteMessage(websocket.TextMessage, d.acks)
}

// send sends the next message of a flow, which was due at a time of the run.
func (d *device) send(f *flow, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = appendMessage(d.out[:0], f.to.Device, arrival{run: d.run.id, flow: f.id, n: f.next(), at: at}, d.run.opts)
	return d.ws.WriteMessage(websocket.TextMessage, d.out)
}

// ask sends a control message, and waits for its answer.
func (d *device) ask(ctx context.Context, id, kind string, payload any) error {
	frame, err := json.Marshal(map[string]any{"id": id, "type": kind, "payload": payload})
	if err != nil {
		return err
	}
	answer := make(chan control, 1)
	d.mu.Lock()
	d.waiting[id] = answer
	err = d.ws.WriteMessage(websocket.TextMessage, frame)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	late := time.NewTimer(answerTimeout)
	defer late.Stop()
	select {
	case c := <-answer:
		if c.Type == "error" {
			return refusal(c)
		}
		return nil
	case <-d.done:
		return fmt.Errorf("the connection ended before %s was answered", kind)
	case <-late.C:
		return fmt.Errorf("%s was not answered within %s", kind, answerTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave ends the connection, as a device does that goes away, and waits for
// the end.
func (d *device) leave() {
	d.leaving.Store(true)
	d.mu.Lock()
	_ = d.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	d.mu.Unlock()
	_ = d.ws.Close()
	<-d.done
}

// forget has the server forget the device.
func (d *device) forget(ctx context.Context) error {
	d.leaving.Store(true)
	return d.ask(ctx, "forget", "device_unregister", map[string]any{"forget": true})
}
