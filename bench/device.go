package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// readBuffer of a device's socket. A burst of messages is then one system call
// and one acknowledgement, as with an SDK.
const readBuffer = 16 << 10

// device is one connected WebSocket. Only the goroutine in read calls receive
// and acknowledge.
type device struct {
	name  Name
	ws    *websocket.Conn
	fleet *Fleet
	pair  *pair // that it receives for; nil when it does not

	// Owned by the read loop.
	buf      []byte
	out      []byte
	messages []arrival
	seqs     []uint64 // to be acknowledged

	mu sync.Mutex // held for writes
}

// Name is a device of a user.
type Name struct{ User, Device string }

// String is the name as commands take it.
func (n Name) String() string { return n.User + "/" + n.Device }

// eager is a connection that calls before whenever it is about to wait for the
// peer, which is when all that came has been dealt with.
type eager struct {
	net.Conn
	before func() error
}

func (e *eager) Read(p []byte) (int, error) {
	if e.before != nil {
		if err := e.before(); err != nil {
			return 0, err
		}
	}
	return e.Conn.Read(p)
}

// dial connects a device and registers it.
func (f *Fleet) dial(ctx context.Context, name Name, url, token string) (*device, error) {
	d := &device{name: name, fleet: f}
	var socket *eager
	dialer := websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			socket = &eager{Conn: nc}
			return socket, err
		},
		TLSClientConfig:  f.opts.TLS,
		HandshakeTimeout: 30 * time.Second,
		ReadBufferSize:   f.readBuffer(),
		WriteBufferSize:  1 << 10,
		Subprotocols:     []string{"rccs.v1"},
	}
	ws, resp, err := dialer.DialContext(ctx, url, nil)
	if err != nil {
		return nil, fmt.Errorf("bench: connect %s: %w", name, err)
	}
	_ = resp.Body.Close()
	d.ws = ws
	if token != "" {
		if err := d.register(token); err != nil {
			_ = ws.Close()
			return nil, fmt.Errorf("bench: register %s: %w", name, err)
		}
	}
	socket.before = d.acknowledge
	return d, nil
}

// register answers the challenge with a token, and waits to hear that it was
// accepted.
func (d *device) register(token string) error {
	_ = d.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, _, err := d.ws.ReadMessage(); err != nil {
		return err
	}
	type payload struct {
		AuthToken string `json:"authToken"`
		Type      string `json:"type"`
		AckMode   string `json:"ackMode"`
		Batch     bool   `json:"batch,omitempty"`
	}
	err := d.ws.WriteJSON(struct {
		ID      string  `json:"id"`
		Type    string  `json:"type"`
		Payload payload `json:"payload"`
	}{"register", "device_register", payload{token, "desktop", "explicit", d.fleet.opts.Batch}})
	if err != nil {
		return err
	}
	_, frame, err := d.ws.ReadMessage()
	if err != nil {
		return err
	}
	var answer struct {
		Payload struct{ Status, Code, Message string }
	}
	if err := json.Unmarshal(frame, &answer); err != nil {
		return fmt.Errorf("answer %q: %w", frame, err)
	}
	if answer.Payload.Status != "success" {
		return fmt.Errorf("refused: %s %s", answer.Payload.Code, answer.Payload.Message)
	}
	return d.ws.SetReadDeadline(time.Time{})
}

// errUnasked is what a device that only idles or sends says to a message.
var errUnasked = errors.New("bench: a message for a device that none was sent to")

// read deals with what comes until the socket ends.
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
		if err := d.receive(d.buf); err != nil {
			return err
		}
	}
}

// receive takes one frame: messages, or what the server says of those that this
// device sent.
func (d *device) receive(frame []byte) error {
	messages, err := scan(d.messages[:0], frame)
	d.messages = messages
	if err != nil {
		return err
	}
	if d.fleet.opts.Receipts {
		before := len(d.seqs)
		if d.seqs, err = outcomes(d.seqs, frame); err != nil {
			return err
		}
		if len(d.seqs) > before && len(messages) == 0 {
			return d.acknowledge()
		}
	}
	for _, m := range messages {
		if d.pair == nil {
			return errUnasked
		}
		if m.seq > 0 {
			d.seqs = append(d.seqs, m.seq)
			if d.fleet.opts.AckEach {
				if err := d.acknowledge(); err != nil {
					return err
				}
			}
		}
		if err := d.pair.arrived(m); err != nil {
			return err
		}
	}
	return nil
}

// acknowledge says what has been received since the last time.
func (d *device) acknowledge() error {
	if len(d.seqs) == 0 {
		return nil
	}
	b := append(d.out[:0], `{"type":"ack","payload":{"seqs":[`...)
	for i, seq := range d.seqs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, seq, 10)
	}
	b = append(b, `]}}`...)
	d.out, d.seqs = b, d.seqs[:0]
	return d.write(b)
}

func (d *device) write(frame []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ws.WriteMessage(websocket.TextMessage, frame)
}
