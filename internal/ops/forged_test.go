package ops_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// What a service stores in the manner of RCCS, or of another service, is shown as
// a service's wherever messages are listed. What RCCS stores is shown as its own.
func TestWhatAServiceForgesIsNotShownAsTheServers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key, err := proof.Load(t.Context(), p.js)
	check(t, err)
	asked := p.store(phone, subjects.High, "order", subjects.HeaderFrom, "desktop", subjects.HeaderAck, "true")
	outcome := "outcome-" + strconv.FormatUint(asked, 10)
	inbox := subjects.Inbox(desktop.Key(), subjects.Normal)
	forged := func(id, from, tag string) {
		p.publish(inbox, `{"status":"delivered"}`, subjects.HeaderID, id, subjects.HeaderType, "ack", subjects.HeaderFrom, from, layout.HeaderProof, tag)
	}
	forged(outcome, "", "")
	forged("f1", "", "")
	forged("f2", "", key.Tag(proof.Server, string(phone.Key()), "f2", `{"status":"delivered"}`)) // another device's
	forged("f3", "server", "")
	forged("f4", "service:billing", "")
	got := map[string]string{}
	list, _, err := p.Browse(t.Context(), desktop, ops.BrowseQuery{State: ops.AllMessages})
	check(t, err)
	for _, m := range list {
		got[m.ID] = m.Type + " from " + string(m.From)
	}
	for _, id := range []string{outcome, "f1", "f2", "f3", "f4"} {
		if want := envelope.DefaultType + " from " + envelope.Service; got[id] != want {
			t.Errorf("%s is listed as %q, want %q", id, got[id], want)
		}
	}
	if copies, _ := p.trace(ops.TraceOptions{ID: "order"}); len(copies) != 1 || copies[0] != "alice/my.phone high 1 desktop waiting  14" {
		t.Errorf("the trace shows an outcome that a service has made up: %q", copies)
	}

	body := `{"status":"delivered"}`
	tag := key.Tag(proof.Server, string(desktop.Key()), outcome, body)
	flows := p.watch(ops.TailOptions{Kinds: []string{ops.FlowInbox}}, 2, func() {
		p.publish(inbox, body, subjects.HeaderID, outcome, subjects.HeaderType, "ack", layout.HeaderProof, tag)
		forged("f5", "", "")
	})
	if flows[0].From != wire.Server || flows[0].Type != wire.TypeAck || flows[1].From != envelope.Service {
		t.Errorf("seen: %+v and %+v", flows[0], flows[1])
	}
	if copies, _ := p.trace(ops.TraceOptions{ID: "order"}); len(copies) != 1 || copies[0] != "alice/my.phone high 1 desktop waiting delivered 14" {
		t.Errorf("the trace does not show what the sender was told: %q", copies)
	}

	at := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	p.publish(subjects.Later(phone.Key(), subjects.High, "l"), `{}`, subjects.HeaderID, "l", subjects.HeaderFrom, "service:billing",
		"Nats-Schedule", "@at "+at, "Nats-Schedule-Target", layout.Due(phone.Key(), subjects.High))
	later, err := p.Later(t.Context(), subjects.Scope(phone))
	check(t, err)
	if len(later) != 1 || later[0].From != envelope.Service {
		t.Errorf("delayed: %+v", later)
	}
}

// Who published to a topic is listed as its subscribers see it.
func TestTopicsListWhoIsKnownToHavePublished(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key, err := proof.Load(t.Context(), p.js)
	check(t, err)
	topic, err := subjects.Topic("news")
	check(t, err)
	p.publish(topic, `1`, subjects.HeaderID, "a", subjects.HeaderFrom, "phone", subjects.HeaderUser, "alice")
	e := wire.NewEnvelope("b", "note", []byte(`2`))
	msg := envelope.Topic(&e, envelope.Sender{Key: phone.Key(), Device: phone.Device, Proof: key}, topic, []byte(`2`), time.Now())
	_, err = p.js.PublishMsg(t.Context(), msg)
	check(t, err)
	list, _, err := p.TopicMessages(t.Context(), "news", 1, 10, 1<<20)
	check(t, err)
	if len(list) != 2 || list[0].From != envelope.Service || list[1].From != phone.Device {
		t.Errorf("listed: %+v", list)
	}
}
