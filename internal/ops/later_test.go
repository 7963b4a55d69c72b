package ops_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
)

// Whoever asked for the outcome of a delayed message hears that somebody else has
// cancelled it: a device by an outcome, a service by an event. Who did not ask, and
// whose message was not cancelled, hears nothing.
func TestCancellingADelayedMessageTellsThoseWhoAsked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key, err := proof.Load(t.Context(), p.js)
	check(t, err)
	delay := func(to subjects.Address, name, id string, headers ...string) {
		h := nats.Header{
			subjects.HeaderID: {id}, "Nats-Schedule": {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {layout.Due(to.Key(), subjects.High)},
		}
		for i := 0; i < len(headers); i += 2 {
			h[headers[i]] = []string{headers[i+1]}
		}
		_, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Later(to.Key(), subjects.High, name), Data: []byte("1"), Header: h})
		check(t, err)
	}
	asks := []string{subjects.HeaderAck, "true"}
	byDesktop := append(asks, subjects.HeaderFrom, "desktop", layout.HeaderProof, key.Tag(proof.Sender, "alice", "desktop", "x"))
	delay(phone, "device", "x", byDesktop...)
	delay(phone, "service", "x", asks...)
	delay(phone, "silent", "x")
	delay(phone, "other", "y", asks...)
	delay(bob, "bob", "x", asks...)
	n, err := p.CancelLater(t.Context(), "alice", "x")
	check(t, err)
	if n != 3 {
		t.Errorf("%d were cancelled, want 3", n)
	}

	const want = `{"originalMessageId":"x","status":"expired","deviceId":"my.phone","reason":"purged"}`
	got := p.stored(desktop)
	if len(got) != 1 || string(got[0].Data) != want || got[0].Subject != subjects.Inbox(desktop.Key(), subjects.High) {
		t.Errorf("the device that asked hears %+v", got)
	}
	events, err := p.js.Stream(t.Context(), subjects.StreamEvent)
	check(t, err)
	info, err := events.Info(t.Context())
	check(t, err)
	if info.State.Msgs != 1 {
		t.Errorf("services hear %d events, want 1", info.State.Msgs)
	}
	event, err := events.GetLastMsgForSubject(t.Context(), subjects.Event(phone.Key(), subjects.EventExpired))
	check(t, err)
	var told struct{ ID, Reason string }
	if err := json.Unmarshal(event.Data, &told); err != nil || told.ID != "x" || told.Reason != "purged" {
		t.Errorf("services hear %s, %v", event.Data, err)
	}
	left, err := p.Later(t.Context(), subjects.Scope{})
	check(t, err)
	if len(left) != 2 || left[0].ID == left[1].ID {
		t.Errorf("%+v are left", left)
	}
}

// A delayed message whose service gave it no id has one of its own, so that an
// operator cancels that message and no other.
func TestDelayedMessagesWithoutAnIDAreCancelledOneByOne(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, name := range []string{"a", "b"} {
		h := nats.Header{
			"Nats-Schedule":        {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {layout.Due(phone.Key(), subjects.High)},
		}
		_, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Later(phone.Key(), subjects.High, name), Data: []byte("1"), Header: h})
		check(t, err)
	}
	list, err := p.Later(t.Context(), subjects.Scope{})
	check(t, err)
	if len(list) != 2 {
		t.Fatalf("%d wait, want 2", len(list))
	}
	n, err := p.CancelLater(t.Context(), "alice", list[0].ID)
	check(t, err)
	left, err := p.Later(t.Context(), subjects.Scope{})
	check(t, err)
	if n != 1 || len(left) != 1 || left[0].ID != list[1].ID {
		t.Errorf("%q cancelled %d, and %d are left", list[0].ID, n, len(left))
	}
}
