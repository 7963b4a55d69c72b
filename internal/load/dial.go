package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// answerTimeout is how long the server may take to open a connection and to
// answer what is not a message.
const answerTimeout = 30 * time.Second

// socket is a connection that calls before each time it is about to wait for the
// server: everything that came has been dealt with then.
type socket struct {
	net.Conn
	before func() error
}

func (s *socket) Read(p []byte) (int, error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return 0, err
		}
	}
	return s.Conn.Read(p)
}

// dial connects a device, registers it, and has it read.
func (r *run) dial(ctx context.Context, a Account) (*device, error) {
	d := &device{name: a.Name, run: r, done: make(chan struct{}), waiting: make(map[string]chan control)}
	var under *socket
	dialer := websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, addr) // the server's pings are enough
			if err != nil {
				return nil, err
			}
			under = &socket{Conn: nc}
			return under, nil
		},
		TLSClientConfig:  r.opts.Target.TLS,
		HandshakeTimeout: answerTimeout,
		ReadBufferSize:   r.readBuffer(),
		WriteBufferSize:  r.opts.Bytes + 1<<10,
		WriteBufferPool:  &r.writeBuffers,
		Subprotocols:     []string{"rccs.v1"},
	}
	ws, resp, err := dialer.DialContext(ctx, r.url(a.Name), nil)
	if err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", a.Name, r.opts.Target.URL, turnedAway(resp, err))
	}
	_ = resp.Body.Close()
	d.ws = ws
	if !r.opts.Target.Relay {
		if err := d.register(a.Token); err != nil {
			_ = ws.Close()
			return nil, fmt.Errorf("register %s: %w", a.Name, err)
		}
	}
	if under != nil {
		under.before = d.idle
	}
	r.devices.Go(func() {
		defer close(d.done)
		defer func() { _ = ws.Close() }()
		if err := d.read(); !d.leaving.Load() {
			r.lost(d, err)
		}
	})
	return d, nil
}

// url returns where a device connects. For a relay it names the receiver.
func (r *run) url(name Name) string {
	to := r.opts.Target
	if !to.Relay {
		return to.URL
	}
	return to.URL + "?" + url.Values{"id": {name.String()}, "to": {Name{name.User, "right"}.String()}}.Encode()
}

// busyError is the error of a connection that the server does not take now.
type busyError struct {
	why   string
	after time.Duration // when it may be tried again
}

// Error implements error.
func (e *busyError) Error() string { return e.why }

// bounds is why an edge does not take a request for a connection.
const bounds = ": an edge bounds what one address may have, " +
	"'rccs serve --help' says how (--max-address-connections, --address-attempts, --max-connections)"

// turnedAway returns what the server answered, or err if it did not answer. A server
// that is busy is asked again after a tenth of a second at least.
func turnedAway(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &busyError{why: resp.Status + bounds, after: max(time.Duration(min(seconds, 60))*time.Second, 100*time.Millisecond)}
	}
	return fmt.Errorf("%w: %s", err, resp.Status)
}

// register answers the challenge with a token, and waits to hear that it was
// accepted.
func (d *device) register(token string) error {
	_ = d.ws.SetReadDeadline(time.Now().Add(answerTimeout))
	if _, _, err := d.ws.ReadMessage(); err != nil {
		return err
	}
	type payload struct {
		AuthToken string `json:"authToken"`
		Type      string `json:"type"`
		AckMode   string `json:"ackMode"`
		Batch     bool   `json:"batch,omitempty"`
		Heartbeat int64  `json:"heartbeatMs,omitempty"`
	}
	err := d.ws.WriteJSON(struct {
		ID      string  `json:"id"`
		Type    string  `json:"type"`
		Payload payload `json:"payload"`
	}{"register", "device_register", payload{token, "desktop", "explicit", d.run.opts.Batch, d.run.opts.Heartbeat.Milliseconds()}})
	if err != nil {
		return err
	}
	_, frame, err := d.ws.ReadMessage()
	if err != nil {
		return err
	}
	var answer control
	if err := json.Unmarshal(frame, &answer); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	switch p := answer.Payload; {
	case p.Code == "UNAVAILABLE":
		return &busyError{why: "the server says " + p.Code + ": " + p.Message, after: time.Second}
	case p.Status != "success":
		return fmt.Errorf("refused: %s %s", p.Code, p.Message)
	}
	if n := answer.Payload.Pending; n > 0 && !d.run.mayWait(d.name) {
		return fmt.Errorf("%d messages wait for it that are not of this run, and would be acknowledged: "+
			"use tokens of devices that nothing else uses, or remove the messages with 'rccs inbox purge %s'", n, d.name)
	}
	return d.ws.SetReadDeadline(time.Time{})
}
