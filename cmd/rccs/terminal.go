package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// terminal shows a device in a terminal.
type terminal struct {
	env   *environment
	flags *connectFlags
	self  subjects.DeviceID

	mu sync.Mutex // held while a line is printed
}

// subscribe passes messages on from the inbox and from topics, until ctx ends.
func (t *terminal) subscribe(ctx context.Context, c *client.Client, feeds *sync.WaitGroup, arrivals chan<- *client.Message) error {
	since, err := parseSince(t.flags.since)
	if err != nil {
		return usageError{fmt.Errorf("--since: %w", err)}
	}
	pass := func(m *client.Message) {
		select {
		case arrivals <- m:
		case <-ctx.Done():
		}
	}
	for _, topic := range t.flags.topics {
		s, err := c.Subscribe(ctx, topic, &client.SubscribeOptions{Since: since})
		if err != nil {
			return fmt.Errorf("--topic %s: %w", topic, err)
		}
		feeds.Go(func() {
			for m, err := range s.Messages(ctx) {
				if err == nil {
					pass(m)
				} else if ctx.Err() == nil && c.Err() == nil {
					t.env.note("topic %s: %v", topic, err)
				}
			}
		})
	}
	feeds.Go(func() {
		for {
			m, err := c.Receive(ctx)
			if err != nil {
				return // print notices by itself
			}
			pass(m)
		}
	})
	return nil
}

// print prints and acknowledges messages until enough came or ctx ends.
func (t *terminal) print(ctx context.Context, c *client.Client, arrivals <-chan *client.Message) error {
	for n := uint(0); t.flags.count == 0 || n < t.flags.count; n++ {
		select {
		case m := <-arrivals:
			if err := t.show(&m.Envelope, line(m)); err != nil {
				return err
			}
			m.Ack() // after it was printed, so that none is lost by a full pipe
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && t.flags.count > 0 {
				return fmt.Errorf("%d of %d messages came within %s", n, t.flags.count, t.flags.timeout)
			}
			return nil
		case <-c.Done():
			return c.Err()
		}
	}
	return nil
}

// show prints an envelope, as JSON or as the text for people.
func (t *terminal) show(e *wire.Envelope, text string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flags.json {
		return t.env.printf("%s\n", e.Append(nil))
	}
	return t.env.printf("%s\n", text)
}

// showPresence prints a change of another device.
func (t *terminal) showPresence(p client.Presence) {
	if !t.flags.presence {
		return
	}
	told := wire.Presence{DeviceID: p.Device, Status: p.Status, Type: p.Type, Extra: p.Extra}
	if !p.LastSeen.IsZero() {
		told.LastSeen = wire.FormatTime(p.LastSeen)
	}
	e := wire.Envelope{Type: wire.TypePresence, FromDeviceID: wire.Server, Payload: told.AppendPayload(nil)}
	if err := t.show(&e, fmt.Sprintf("presence %s is %s", p.Device, p.Status)); err != nil {
		t.env.note("not printed: %v", err)
	}
}

// line is a message for people: where it came from, sequence, type, sender,
// payload.
func line(m *client.Message) string {
	var b strings.Builder
	switch m.Type {
	case wire.TypeTopic:
		fmt.Fprintf(&b, "topic %s #%d from %s", m.Topic, m.Seq, m.FromDeviceID)
	case wire.TypeRequest:
		fmt.Fprintf(&b, "request %s from %s", m.ID, m.FromDeviceID)
	default:
		fmt.Fprintf(&b, "%-8s #%-6d %s from %s", subjects.Lane(m.Priority), m.Seq, m.Type, m.FromDeviceID)
	}
	switch {
	case m.Replay:
		b.WriteString(" (replay)")
	case m.Redelivered:
		b.WriteString(" (again)")
	}
	if m.Sealed {
		b.WriteString(" (sealed)")
	}
	if data, err := m.Data(); err == nil && m.Encoding != "" {
		fmt.Fprintf(&b, ": %q", data) // bytes that are not JSON, made safe for a terminal
	} else {
		fmt.Fprintf(&b, ": %s", m.Payload)
	}
	return b.String()
}

// maxTyped bounds a line of standard input. What an edge takes is less by
// default; an input without line ends must not fill the memory.
const maxTyped = 16 << 20

// sendLines sends what is typed. Reading standard input cannot be interrupted,
// so it may outlive the command by as long as the process does.
func (t *terminal) sendLines(ctx context.Context, c *client.Client) {
	in := bufio.NewScanner(t.env.in)
	in.Buffer(nil, maxTyped)
	for in.Scan() {
		if text := strings.TrimSpace(in.Text()); text != "" {
			t.typed(ctx, c, text)
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		t.env.note("standard input: a line is longer than %s bytes, nothing more is read from it", number(maxTyped))
	case err != nil:
		t.env.note("standard input: %v", err)
	}
}

// typed does what a line says.
func (t *terminal) typed(ctx context.Context, c *client.Client, text string) {
	first, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	var err error
	switch {
	case text == "help" || text == "/help" || text == "?":
		t.env.note("a line is one of\n%s", strings.TrimRight(typedForms, "\n"))
	case first == "/devices":
		err = t.listDevices(ctx, c)
	case first == "/status":
		if err = c.SetStatus(ctx, rest, nil); err == nil {
			t.env.note("status is %s", rest)
		}
	case first == "/key":
		err = t.showKey(ctx, c, rest)
	case first == "/accept":
		err = t.acceptKey(c, rest)
	case strings.HasPrefix(first, "/"):
		err = fmt.Errorf("no command %s: want /devices, /status, /key or /accept, and 'help' shows every form", first)
	case rest == "":
		err = errors.New(`want DEVICE PAYLOAD, such as: desktop {"open":"main.go"} ('help' shows every form)`)
	case strings.HasPrefix(first, "#"):
		err = t.publish(ctx, c, first[1:], rest)
	case strings.HasPrefix(first, "?"):
		err = t.request(ctx, c, first[1:], rest)
	case strings.HasPrefix(first, "="):
		r := wire.Response{Result: payloadOf(rest)}
		err = c.SendNoWait(ctx, wire.Envelope{Type: wire.TypeResponse, CorrelationID: first[1:], Payload: r.AppendPayload(nil)})
	default:
		err = t.send(ctx, c, first, rest)
	}
	if err != nil && ctx.Err() == nil {
		t.env.note("not sent: %v", err)
	}
}

// payloadOf is the text itself when it is JSON, else a JSON string of it.
func payloadOf(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return wire.AppendString(nil, text)
}

func (t *terminal) send(ctx context.Context, c *client.Client, device, payload string) error {
	var to []client.SendOption
	if device != "*" {
		to = append(to, client.To(subjects.DeviceID(device)))
	}
	e, err := client.Compose(t.flags.kind, payloadOf(payload), to...)
	if err != nil {
		return err
	}
	if t.flags.seal != "" {
		if e, err = c.Seal(ctx, e); err != nil {
			return sealHint(err)
		}
	}
	accepted, err := c.Send(ctx, e)
	if err != nil {
		return err
	}
	for _, r := range accepted.Recipients {
		t.env.note("stored for %s, seq %d", r.Device, r.Seq)
	}
	if len(accepted.Recipients) == 0 {
		t.env.note("stored for the first device to come online")
	}
	return nil
}

func (t *terminal) publish(ctx context.Context, c *client.Client, topic, data string) error {
	p, err := c.Publish(ctx, topic, payloadOf(data))
	if err == nil {
		t.env.note("stored in topic %s, seq %d", topic, p.Seq)
	}
	return err
}

// request prints each part of the response. Other lines wait for its end.
func (t *terminal) request(ctx context.Context, c *client.Client, device, rest string) error {
	method, text, _ := strings.Cut(rest, " ")
	var params any
	if text = strings.TrimSpace(text); text != "" {
		params = payloadOf(text)
	}
	for result, err := range c.RequestStream(ctx, subjects.DeviceID(device), method, params) {
		if err != nil {
			return err
		}
		e := wire.Envelope{Type: wire.TypeResponse, FromDeviceID: subjects.DeviceID(device), Payload: result}
		if err := t.show(&e, fmt.Sprintf("response from %s: %s", device, result)); err != nil {
			return err
		}
	}
	return nil
}

func (t *terminal) listDevices(ctx context.Context, c *client.Client) error {
	all, err := c.Devices(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		self := ""
		if d.ID == t.self {
			self = " (this one)"
		}
		t.env.note("%s %s %s, last seen %s%s", d.ID, d.Type, d.Status, moment(d.LastSeen), self)
	}
	return nil
}
