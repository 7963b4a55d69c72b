package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// Whoever asks hears how its message ended: each end, each kind of sender, with
// the receiver on the sender's edge and on another.
func TestProtocol_5_EverySenderThatAskedHearsHowItsMessageEnded(t *testing.T) {
	t.Parallel()
	s := start(t, "--max-deliveries", "2")
	other := s.edge(t, "other", "--max-deliveries", "2")
	backend := newBackend(t, s)
	for edges, at := range map[string]*server{"one edge": s, "two edges": other} {
		for end, e := range ends() {
			for kind, sender := range senders() {
				t.Run(edges+"/"+end+"/"+kind, func(t *testing.T) {
					t.Parallel()
					c := &message{t: t, at: at, user: user(t)}
					c.sender = sender(t, s, backend, c.user)
					id := e.bring(c)
					if got, want := c.sender.hears(id), (outcome{Status: e.status, DeviceID: "editor", Reason: e.reason}); got != want {
						t.Errorf("heard %+v, want %+v", got, want)
					}
				})
			}
		}
	}
}

// A device that takes small frames hears outcomes as what they are.
func TestProtocol_5_ADeviceThatTakesSmallFramesHearsOutcomes(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", object{"maxFrameBytes": 1024}), connect(t, s, u+"/b", nil)
	m := a.give("b", 1, nil)
	b.ack(b.message().Seq)
	a.wantOutcome(m.OriginalMessageID, "delivered", "b")
}

// message is one on its way to the device "editor" of a user.
type message struct {
	t      *testing.T
	at     *server // the editor's edge
	user   string
	sender sender
}

// editor connects the receiver.
func (c *message) editor(registration object) *device {
	c.t.Helper()
	return connect(c.t, c.at, c.user+"/editor", registration)
}

// away makes the receiver known, and leaves it disconnected.
func (c *message) away() {
	c.t.Helper()
	c.at.register(c.t, c.user+"/editor")
}

// ask sends a message whose sender wants to hear what becomes of it. The sender's
// server may not know yet that the editor has registered elsewhere.
func (c *message) ask(size int, fields object) (id string) {
	c.t.Helper()
	id = newID()
	eventually(c.t, func() error { return c.sender.asks(id, strings.Repeat("x", size), fields) })
	return id
}

// end is a way for a message to end, and what its sender hears of it.
type end struct {
	status, reason string
	bring          func(c *message) (id string)
}

// small is the registration of a device that takes no frame above 4 KiB.
func small() object { return object{"maxFrameBytes": 4096} }

func ends() map[string]end {
	all := lateEnds()
	maps.Copy(all, map[string]end{
		"delivered, near the largest frame": {"delivered", "", func(c *message) string {
			editor := c.editor(small())
			id := c.ask(3400, nil)
			editor.ack(editor.message().Seq)
			return id
		}},
		"rejected": {"rejected", "cannot parse", func(c *message) string {
			editor := c.editor(nil)
			id := c.ask(1, nil)
			editor.reject(editor.message().Seq)
			return id
		}},
		"rejected, near the largest frame": {"rejected", "cannot parse", func(c *message) string {
			editor := c.editor(small())
			id := c.ask(3400, nil)
			editor.reject(editor.message().Seq)
			return id
		}},
		"rejected, when it came again": {"rejected", "cannot parse", func(c *message) string {
			c.away()
			id := c.ask(1, nil)
			editor := c.editor(nil)
			editor.message()
			editor.leave()
			editor = c.editor(nil)
			editor.reject(editor.message().Seq)
			return id
		}},
		"rejected, on plain NATS": {"rejected", "cannot parse", func(c *message) string {
			c.away()
			id := c.ask(1, nil)
			editor := c.plainEditor()
			var got []envelope
			eventually(c.t, func() error { return editor.try("fetch", object{"wait": 20_000}, &got) }) // refused while it counts as connected
			if len(got) != 1 {
				c.t.Fatalf("fetched %+v", got)
			}
			editor.call("ack", object{"reject": object{"seq": got[0].Seq, "reason": "cannot parse"}}, &struct{}{})
			return id
		}},
		"rejected, by too many deliveries": {"rejected", "maxDeliveries", func(c *message) string {
			c.away()
			id := c.ask(1, nil)
			for range 2 {
				editor := c.editor(nil)
				editor.message()
				editor.leave()
			}
			c.editor(nil)
			return id
		}},
		"too large, online": {"undeliverable", "tooLarge", func(c *message) string {
			c.editor(small())
			return c.ask(8192, nil)
		}},
		"too large, away": {"undeliverable", "tooLarge", func(c *message) string {
			c.away()
			id := c.ask(8192, nil)
			c.editor(small())
			return id
		}},
		"too large, when it came again": {"undeliverable", "tooLarge", func(c *message) string {
			editor := c.editor(nil)
			id := c.ask(8192, nil)
			editor.message()
			editor.leave()
			c.editor(small())
			return id
		}},
	})
	return all
}

// lateEnds are those of messages that the device never gets, or too late.
func lateEnds() map[string]end {
	return map[string]end{
		"expired, away": {"expired", "", func(c *message) string {
			c.away()
			return c.ask(1, object{"ttlMs": 300})
		}},
		"expired, behind the window": {"expired", "", func(c *message) string {
			editor := c.editor(object{"window": 1})
			c.ask(1, nil)
			editor.message()
			return c.ask(1, object{"ttlMs": 300})
		}},
		"expired, sent and not acknowledged": {"expired", "", func(c *message) string {
			editor := c.editor(nil)
			for ttl := 2000; ; ttl *= 2 { // on a starved machine it may expire before it is sent
				id := c.ask(1, object{"ttlMs": ttl})
				next := c.ask(1, nil) // of the same lane
				switch editor.message().ID {
				case id:
					editor.leave()
					return id
				case next:
				default:
					c.t.Fatal("the editor got what nobody sent")
				}
			}
		}},
		"purged": {"expired", "purged", func(c *message) string {
			c.away()
			id := c.ask(1, nil)
			c.purge()
			return id
		}},
		"purged, sent and not acknowledged": {"expired", "purged", func(c *message) string {
			editor := c.editor(small())
			id := c.ask(3400, nil)
			editor.message()
			c.purge()
			return id
		}},
		"replaced, away": {"replaced", "", func(c *message) string {
			c.away()
			id := c.ask(1, object{"collapseKey": "k"})
			c.ask(1, object{"collapseKey": "k"})
			c.editor(nil)
			return id
		}},
		"replaced, behind the window": {"replaced", "", func(c *message) string {
			editor := c.editor(object{"window": 1})
			c.ask(1, nil)
			first := editor.message()
			id := c.ask(1, object{"collapseKey": "k"})
			c.ask(1, object{"collapseKey": "k"})
			c.at.caughtUp(c.t, c.user)
			editor.ack(first.Seq)
			return id
		}},
	}
}

// purge removes what waits for the receiver. Where an edge does not answer in time the
// command says to purge again.
func (c *message) purge() {
	c.t.Helper()
	eventually(c.t, func() error {
		r := rccs(c.t, "", "inbox", "purge", c.user+"/editor", "--yes", "--data", c.at.data, "--server", c.sender.server().NATS)
		if r.status != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
}

func (d *device) reject(seq uint64) {
	d.t.Helper()
	d.acknowledge(object{"reject": object{"seq": seq, "reason": "cannot parse"}})
}

// plainEditor is the receiver on plain NATS.
func (c *message) plainEditor() *plain {
	c.t.Helper()
	return c.sender.server().plain(c.t, c.user, "editor")
}

// sender sends to the device "editor" and asks for outcomes.
type sender interface {
	asks(id, payload string, fields object) error
	// hears waits for what becomes of a message; the id and the time are left out.
	hears(id string) outcome
	// server is the one with NATS.
	server() *server
}

// backend is a service that all tests of a server use.
type backend struct {
	*service
	token string // of a service, for HTTP
}

func newBackend(t *testing.T, s *server) *backend {
	t.Helper()
	return &backend{service: s.service(t, "backend"), token: strings.TrimSpace(must(t, "creds", "service", "web", "--bearer", "--data", s.data))}
}

func senders() map[string]func(t *testing.T, s *server, b *backend, user string) sender {
	return map[string]func(t *testing.T, s *server, b *backend, user string) sender{
		"device": func(t *testing.T, s *server, _ *backend, user string) sender {
			t.Helper()
			return &deviceSender{connect(t, s, user+"/phone", nil), s}
		},
		"device on plain NATS": func(t *testing.T, s *server, _ *backend, user string) sender {
			t.Helper()
			return &plainSender{s.plain(t, user, "phone"), s}
		},
		"service": func(t *testing.T, s *server, b *backend, user string) sender {
			t.Helper()
			return &serviceSender{listen(t, s, b, user)}
		},
		"service by HTTP": func(t *testing.T, s *server, b *backend, user string) sender {
			t.Helper()
			return &httpSender{listen(t, s, b, user)}
		},
	}
}

type deviceSender struct {
	*device
	s *server
}

func (d *deviceSender) server() *server { return d.s }

func (d *deviceSender) asks(id, payload string, fields object) error {
	d.t.Helper()
	d.send(asking(id, payload, fields))
	if e := d.next(); e.Type != "ack" {
		return fmt.Errorf("answered with %s", e.raw)
	}
	return nil
}

// asking is a message to the editor whose sender wants to hear of it.
func asking(id, payload string, fields object) object {
	m := object{"id": id, "type": "note", "toDeviceId": "editor", "payload": payload, "requiresAck": true}
	maps.Copy(m, fields)
	return m
}

func (d *deviceSender) hears(id string) outcome {
	d.t.Helper()
	for {
		if o := d.outcome(); o.OriginalMessageID == id {
			o.OriginalMessageID, o.DeliveredAt = "", ""
			return o
		}
	}
}

type plainSender struct {
	*plain
	s *server
}

func (d *plainSender) server() *server { return d.s }

func (d *plainSender) asks(id, payload string, fields object) error {
	d.t.Helper()
	return d.try("send", asking(id, payload, fields), &answer{})
}

func (d *plainSender) hears(id string) outcome {
	d.t.Helper()
	for {
		var all []envelope
		d.fetch(&all)
		for _, e := range all {
			var o outcome
			decode(d.t, e.Payload, &o)
			if o.OriginalMessageID == id && e.Type == "ack" {
				o.OriginalMessageID, o.DeliveredAt = "", ""
				return o
			}
			d.call("ack", object{"seq": e.Seq}, &struct{}{})
		}
	}
}

// listener hears the events of a user's editor.
type listener struct {
	t      *testing.T
	s      *server
	b      *backend
	user   string
	events *nats.Subscription
}

func listen(t *testing.T, s *server, b *backend, user string) *listener {
	t.Helper()
	events, err := b.nc.SubscribeSync("rccs.event." + token(user) + ".editor.*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = events.Unsubscribe() })
	if err := b.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	return &listener{t, s, b, user, events}
}

func (l *listener) server() *server { return l.s }

func (l *listener) hears(id string) outcome {
	l.t.Helper()
	for {
		m, err := l.events.NextMsg(patience)
		if err != nil {
			l.t.Fatalf("no event of %s came: %v", id, err)
		}
		var e struct{ ID, Kind, Device, Reason string }
		if decode(l.t, m.Data, &e); e.ID == id {
			return outcome{Status: e.Kind, DeviceID: e.Device, Reason: e.Reason}
		}
	}
}

type serviceSender struct{ *listener }

func (v *serviceSender) asks(id, payload string, fields object) error {
	v.t.Helper()
	headers := []string{"Rccs-Id", id, "Rccs-Ack", "true"}
	for name, value := range fields {
		headers = append(headers, map[string]string{"ttlMs": "Rccs-Ttl-Ms", "collapseKey": "Rccs-Collapse"}[name], fmt.Sprint(value))
	}
	_, err := v.b.try(inbox(v.user, "editor", "normal"), strconv.Quote(payload), headers...)
	return err
}

type httpSender struct{ *listener }

func (v *httpSender) asks(id, payload string, fields object) error {
	v.t.Helper()
	m := object{"to": object{"user": v.user, "device": "editor"}, "type": "note", "id": id, "payload": payload}
	maps.Copy(m, fields)
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.s.Admin+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+v.b.token)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("answered with %s", response.Status)
	}
	return nil
}
