package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// NATS sends an answer wherever the requester wants it, with the server's own
// rights. The tests of this file hold what a credential gains by that, which
// docs/security.md lists as open. When one fails because the gap is closed, turn
// it round and change the page.

// gap is an installation with something in bob's inbox, and its streams.
type gap struct {
	*installation
	js  jetstream.JetStream
	ctx context.Context //nolint:containedctx // of the test
	bob string          // his inbox
}

func newGap(t *testing.T) *gap {
	t.Helper()
	i := install(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	bob := subjects.Address{User: "bob", Device: "phone"}.Key()
	g := &gap{installation: i, js: natstest.Streams(t, i.part), ctx: ctx, bob: subjects.Inbox(bob, subjects.Normal)}
	ack, err := g.js.Publish(ctx, g.bob, []byte(`"secret"`))
	must(t, ack, err)
	return g
}

// stored is how many messages a stream has under a subject, -1 if there is no
// such stream.
func (g *gap) stored(t *testing.T, stream, subject string) int {
	t.Helper()
	s, err := g.js.Stream(g.ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return -1
	}
	must(t, s, err)
	info, err := s.Info(g.ctx, jetstream.WithSubjectFilter(subject))
	if errors.Is(err, jetstream.ErrStreamNotFound) { // deleted just now
		return -1
	}
	must(t, info, err)
	return int(info.State.Subjects[subject]) //nolint:gosec // a handful
}

// becomes waits until a stream has n messages under a subject.
func (g *gap) becomes(t *testing.T, stream, subject string, n int) {
	t.Helper()
	deadline := time.After(patience)
	for got := g.stored(t, stream, subject); got != n; got = g.stored(t, stream, subject) {
		select {
		case <-deadline:
			t.Fatalf("%s has %d under %s, want %d", stream, got, subject, n)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// An answer of JetStream to a service can be a request to JetStream, with a body
// that the service has written into a topic.
func TestOpen_AServiceActsWithTheRightsOfTheServer(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.service(t)
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	// order has JetStream send body to subject.
	order := func(subject string, body []byte) {
		t.Helper()
		ack, err := js.Publish(g.ctx, "rccs.topic.orders", body)
		must(t, ack, err)
		if err := c.PublishRequest("$JS.API.DIRECT.GET."+subjects.StreamTopic+".rccs.topic.orders", subject, nil); err != nil {
			t.Fatal(err)
		}
	}

	inbox := nats.NewInbox() + ".x"
	heard, err := c.SubscribeSync(inbox)
	must(t, heard, err)
	body, err := json.Marshal(map[string]any{"stream_name": subjects.StreamInbox, "config": map[string]any{
		"name": "reader", "deliver_subject": inbox, "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant",
	}})
	order("$JS.API.CONSUMER.CREATE."+subjects.StreamInbox+".reader", must(t, body, err))
	if m, err := heard.NextMsg(patience); err != nil || m.Subject != g.bob || string(m.Data) != `"secret"` {
		t.Errorf("it does not read an inbox: %v, %v", m, err)
	}
	record := subjects.DeviceSubject(phone.Key())
	order(record, []byte(`{}`))
	g.becomes(t, "KV_"+subjects.BucketDevices, record, 1)
	order("$JS.API.STREAM.PURGE."+subjects.StreamInbox, nil)
	g.becomes(t, subjects.StreamInbox, g.bob, 0)
	order("$JS.API.STREAM.DELETE."+subjects.StreamAudit, nil)
	g.becomes(t, subjects.StreamAudit, subjects.AllAudits(), -1)
}

// RCCS gives no device a right to publish to a stream. Who gives one by another
// tool lets it put JetStream's acknowledgement, a line of JSON, anywhere.
func TestOpen_ADeviceWithAnAddedRightToPublishWritesToAnInbox(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.dial(t, g.added(t, subjects.TopicPrefix+"news"), "added")
	if err := c.PublishRequest("rccs.topic.news", g.bob, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, subjects.StreamInbox, g.bob, 2)
}

// What a device may publish, it may have neither answered nor traced into an
// inbox: nobody answers it but RCCS, and NATS asks whether the device itself may
// publish where a trace is to go.
func TestADevicesRequestPutsNothingElsewhere(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.device(t, phone)
	for _, to := range []string{g.bob, subjects.Cursor(phone.Key()), "$JS.API.STREAM.PURGE." + subjects.StreamInbox} {
		for _, header := range []nats.Header{nil, {"Nats-Trace-Dest": {to}}, {"Nats-Trace-Dest": {to}, "Nats-Trace-Only": {"true"}}} {
			for _, endpoint := range []string{"fetch", "ack", "send", "up", "none"} {
				m := &nats.Msg{Subject: subjects.DeviceEndpoint(phone.Key(), endpoint), Reply: to, Header: header, Data: []byte("{}")}
				if err := c.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	// What the server would have published comes before what is published now.
	ack, err := g.js.Publish(g.ctx, g.bob, []byte(`"last"`))
	must(t, ack, err)
	if inbox, cursors := g.stored(t, subjects.StreamInbox, g.bob), g.stored(t, subjects.StreamCursor, subjects.Cursor(phone.Key())); inbox != 2 || cursors != 0 {
		t.Errorf("%d messages in the inbox, want 2, and %d in the cursor, want none", inbox, cursors)
	}
}

// added is a device's credential as RCCS makes it, with one more right to
// publish: what another tool that has the signing key can make.
func (g *gap) added(t *testing.T, right string) auth.Credential {
	t.Helper()
	cred := issue(t, g.keys, phone, auth.DeviceOptions{})
	seed, err := os.ReadFile(filepath.Join(g.keys.Dir(), "default-signing.nk"))
	must(t, seed, err)
	signer, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	must(t, signer, err)
	claims := decodeUser(t, cred.JWT)
	claims.Pub.Allow.Add(right)
	token, err := claims.Encode(signer)
	cred.JWT = must(t, token, err)
	return cred
}

// A part may do anything: the record of what operators did is safe from removal
// of its messages, not from that of the whole stream.
func TestOpen_APartCanDeleteTheWholeRecord(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	if err := g.js.DeleteStream(g.ctx, subjects.StreamAudit); err != nil {
		t.Errorf("it cannot: %v", err)
	}
}
