package ops_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

func (p *place) trace(opts ops.TraceOptions) (copies, steps []string) {
	p.t.Helper()
	got, err := p.Trace(p.t.Context(), opts)
	check(p.t, err)
	for _, c := range got.Copies {
		copies = append(copies, fmt.Sprintf("%s/%s %s %d %s %s %s %d", c.User, c.Device, c.Lane, c.Seq, c.From, c.State, c.Outcome, c.Bytes))
	}
	for _, s := range got.Steps {
		steps = append(steps, fmt.Sprintf("%s %s/%s %d %s", s.Step, s.User, s.Device, s.Seq, s.Detail))
	}
	return copies, steps
}

func (p *place) publish(subject, data string, headers ...string) {
	p.t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	_, err := p.js.PublishMsg(p.t.Context(), m)
	check(p.t, err)
}

func TestTraceIsTheLifeOfAMessage(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fill(3, 100)
	asked := []string{subjects.HeaderFrom, "desktop", subjects.HeaderAck, "true", subjects.HeaderType, "note"}
	one := p.store(phone, subjects.High, "m", asked...)
	two := p.store(subjects.Address{User: "alice", Device: "tablet"}, subjects.High, "m", asked...)
	p.store(bob, subjects.Low, "m")
	p.store(bob, subjects.Low, "n")
	p.acknowledge(phone, inbox.Cursor{Sent: [4]uint64{0, 0, one}})
	p.acknowledge(bob, inbox.Cursor{Sent: [4]uint64{two + 1}, Unacked: [4][]uint64{{two + 1}}})
	p.publish(subjects.Event(phone.Key(), subjects.EventOnline), `{"kind":"online"}`)
	p.publish(subjects.Inbox(desktop.Key(), subjects.High), `{"originalMessageId":"m","status":"delivered","deviceId":"my.phone"}`,
		"Nats-Msg-Id", "outcome/"+strconv.FormatUint(one, 10), subjects.HeaderID, "outcome-"+strconv.FormatUint(one, 10), subjects.HeaderType, "ack")
	p.publish(subjects.Event(phone.Key(), subjects.EventOffline), `{"kind":"offline"}`)
	p.publish(subjects.Event(bob.Key(), subjects.EventExpired), `{}`, "Nats-Msg-Id", "event/outcome/"+strconv.FormatUint(two+1, 10))
	p.publish(subjects.Up(bob.Key(), "order"), `{}`, subjects.HeaderID, "m")

	copies, steps := p.trace(ops.TraceOptions{ID: "m"})
	wantCopies := []string{
		"alice/my.phone high 301 desktop acknowledged delivered 10", "alice/tablet high 302 desktop waiting  10",
		"bob/phone low 303 service:nats sent expired 10",
	}
	wantSteps := []string{
		"stored alice/my.phone 301 lane high, note from desktop", "stored alice/tablet 302 lane high, note from desktop",
		"stored bob/phone 303 lane low, notification from service:nats", "device alice/my.phone 1 came online",
		"outcome alice/desktop 305 delivered by my.phone, told the sender", "outcome bob/phone 3 expired, told services",
		"up bob/phone 1 order to services",
	}
	if !slices.Equal(copies, wantCopies) {
		t.Errorf("copies %q, want %q", copies, wantCopies)
	}
	if !slices.Equal(steps, wantSteps) {
		t.Errorf("steps %q, want %q", steps, wantSteps)
	}
	// Narrowed to one recipient, its outcome is found all the same.
	copies, steps = p.trace(ops.TraceOptions{ID: "m", Scope: subjects.Scope(phone), Since: time.Now().Add(-time.Hour)})
	if !slices.Equal(copies, wantCopies[:1]) || len(steps) != 3 {
		t.Errorf("of one device %q and %q", copies, steps)
	}
	if copies, _ = p.trace(ops.TraceOptions{ID: "m1-50", Scope: subjects.Scope{User: "u0"}}); len(copies) != 1 {
		t.Errorf("in the middle %q", copies)
	}
	for _, opts := range []ops.TraceOptions{{ID: "x"}, {ID: "m", Since: time.Now().Add(time.Hour)}, {ID: "n", Scope: subjects.Scope(phone)}} {
		if _, err := p.Trace(t.Context(), opts); !errors.Is(err, ops.ErrNoMessage) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// What waits for a device, or for its time, and what went to a topic.
func TestTraceFindsWhatWaits(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.publish(subjects.Route("alice", subjects.Selector{Any: true, DeviceType: "desktop"}), `{}`, subjects.HeaderID, "r")
	p.publish(layout.Wait("alice"), `{}`, subjects.HeaderID, "w")
	at := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	p.publish(subjects.Later(phone.Key(), subjects.High, "l"), `{}`, subjects.HeaderID, "l",
		"Nats-Schedule", "@at "+at, "Nats-Schedule-Target", layout.Due(phone.Key(), subjects.High))
	topic, err := subjects.Topic("news.today")
	check(t, err)
	p.publish(topic, `{}`, subjects.HeaderID, "t")
	for id, want := range map[string]string{
		"r": "route alice/ 1 for devices that the coordinator finds",
		"w": "route alice/ 2 for the first device that comes online",
		"l": "later alice/my.phone 1 lane high, due @at " + at,
		"t": fmt.Sprintf("topic / %d news.today", uint64(layout.FirstTopicSeq)),
	} {
		copies, steps := p.trace(ops.TraceOptions{ID: id})
		if len(copies) != 0 || !slices.Equal(steps, []string{want}) {
			t.Errorf("%s: %q and %q, want %q", id, copies, steps, want)
		}
	}
}
