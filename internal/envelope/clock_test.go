package envelope_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A store that forgot ids when its clock was set ahead keeps twice what a sender
// sends again, so a device must not take it for new.
func TestWhatIsSentAfterTheClockWasSetAheadIsMarked(t *testing.T) { //nolint:paralleltest // it sets the clock of all
	from := envelope.Sender{Key: subjects.Address{User: "alice", Device: "desk"}.Key(), Device: "desk"}
	to := subjects.Address{User: "alice", Device: "phone"}
	e := wire.NewEnvelope("m", "note", []byte(`1`))
	var f envelope.Form
	made := map[string]func() *nats.Msg{
		"an inbox":            func() *nats.Msg { return envelope.Inbox(&e, from, to.Key(), 1, e.Payload) },
		"an inbox, by a form": func() *nats.Msg { f.Address(&e, from, to); return f.Inbox(&e, from) },
		"a delayed one":       func() *nats.Msg { return envelope.Later(&e, from, to.Key(), 0, e.Payload) },
		"one that waits":      func() *nats.Msg { return envelope.Wait(&e, from, wire.To{}, "", e.Payload) },
		"one to services":     func() *nats.Msg { return envelope.Up(&e, from, e.Payload) },
	}
	for n, ahead := range []bool{false, true, false, true} {
		if from.Unsure = n == 3; !from.Unsure { // this clock, or the store's
			defer envelope.SetClock(ahead)()
		}
		for name, one := range made {
			msg := one()
			if got := msg.Header.Get(subjects.HeaderRedelivered) == "true"; got != ahead {
				t.Errorf("%s, clock set ahead %t: marked %t", name, ahead, got)
			}
			m, ok := envelope.Parse(nil, envelope.Stored{Subject: subjects.Inbox(to.Key(), subjects.Normal), Seq: 7, Header: msg.Header, Data: msg.Data})
			if !ok {
				t.Fatal(name)
			}
			var shown struct{ Redelivered bool }
			if err := json.Unmarshal(envelope.Append(nil, &envelope.Delivery{Message: m}, to), &shown); err != nil || shown.Redelivered != ahead {
				t.Errorf("%s, clock set ahead %t: the device is shown %+v, %v", name, ahead, shown, err)
			}
		}
	}
}
