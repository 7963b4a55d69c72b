package coordinator_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// asked stores a message of alice's desk, which wants to hear the outcome. Its id is its
// body.
func (p *place) asked(to subjects.Key, lane subjects.Lane, body string, headers ...string) uint64 {
	p.t.Helper()
	return p.publish(subjects.Inbox(to, lane), body, append([]string{
		"Rccs-Id", body, "Rccs-Ack", "true", "Rccs-From", "desk", "Rccs-Proof", p.sentBy("desk", body),
	}, headers...)...)
}

// told is what alice's desk has heard of its messages, by lane.
func (p *place) told() []string {
	p.t.Helper()
	var all []string
	for lane := range subjects.Lane(subjects.Lanes) {
		for _, body := range p.lane("alice/desk", lane) {
			a, err := wire.DecodeAnswer([]byte(body))
			if err != nil {
				p.t.Fatal(err)
			}
			o := a.Outcome()
			all = append(all, fmt.Sprintf("%s %s %s", o.OriginalID, o.Status, o.Reason))
		}
	}
	return all
}

// A device on plain NATS gets the newest message of a collapse key, whichever lane that
// is in and however many fetches it takes. What it may have been sent stays.
func TestFetchLeavesOutWhatANewerMessageReplaces(t *testing.T) {
	t.Parallel()
	p, d := placeWithDevice(t)
	p.asked(d.key, subjects.Normal, "0", "Rccs-Collapse", "k")
	if all := d.fetch(nil); !slices.Equal(payloads(all), []string{"0"}) {
		t.Fatalf("fetched %v", payloads(all))
	}
	p.asked(d.key, subjects.Low, "1", "Rccs-Collapse", "k")
	p.publish(subjects.Inbox(d.key, subjects.Low), "2")
	p.asked(d.key, subjects.Normal, "3", "Rccs-Collapse", "k")
	p.asked(d.key, subjects.High, "4", "Rccs-Collapse", "k")
	p.asked(d.key, subjects.Normal, "5", "Rccs-Collapse", "other")
	var got []string
	for range 4 {
		all := d.fetch(map[string]any{"limit": 1})
		got = append(got, payloads(all)...)
		for _, e := range all {
			d.ack(map[string]any{"seq": e.Seq})
		}
	}
	if want := []string{"4", "0", "5", "2"}; !slices.Equal(got, want) {
		t.Errorf("fetched %v, want %v", got, want)
	}
	if all := d.fetch(nil); len(all) != 0 {
		t.Errorf("then fetched %v", payloads(all))
	}
	if told, want := p.told(), []string{"1 replaced ", "0 delivered ", "3 replaced ", "5 delivered ", "4 delivered "}; !slices.Equal(told, want) {
		t.Errorf("the sender was told %v, want %v", told, want)
	}
}

// Collapse keys do not have each of many fetches read all that waits.
func TestFetchingInPartsReadsCollapseKeysOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var fetch *nats.Conn
	p.coordinateWith(coordinator.Options{Dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
		nc, err := p.dial(name, opts...)
		if name == "fetch" {
			fetch = nc
		}
		return nc, err
	}})
	d := p.device("alice/phone")
	const messages, parts = 400, 40
	for i := range messages {
		p.publish(subjects.Inbox(d.key, subjects.Normal), strconv.Itoa(i), "Rccs-Collapse", strconv.Itoa(i))
	}
	before := fetch.Stats().InMsgs
	for range parts {
		if all := d.fetch(map[string]any{"limit": messages / parts}); len(all) != messages/parts {
			t.Fatalf("fetched %d", len(all))
		}
		d.ack(map[string]any{"upTo": messages})
	}
	// Each message is read for its key, for the answer and for its acknowledgement.
	if read := fetch.Stats().InMsgs - before; read > 3*messages+30*parts {
		t.Errorf("%d messages were read to give out %d", read, messages)
	}
}

// A message that a device on plain NATS fetches again and again, and does not
// acknowledge, ends as one does that connections are sent.
func TestAMessageThatNFetchesDidNotAcknowledgeIsRejected(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.coordinateWith(coordinator.Options{MaxDeliveries: 2})
	d := p.device("alice/phone")
	poison := p.asked(d.key, subjects.Normal, "1")
	p.asked(d.key, subjects.Normal, "2")
	for range 2 {
		all := d.fetch(nil)
		if !slices.Equal(payloads(all), []string{"1", "2"}) {
			t.Fatalf("fetched %v", payloads(all))
		}
		if all[0].Redelivered { // the second is acknowledged in time
			d.ack(map[string]any{"seq": all[1].Seq})
		}
	}
	for range 2 {
		if all := d.fetch(nil); len(all) != 0 {
			t.Fatalf("fetched %v", payloads(all))
		}
	}
	if n := d.ack(map[string]any{"seq": poison}); n != 0 {
		t.Errorf("acknowledged %d", n)
	}
	if told, want := p.told(), []string{"2 delivered ", "1 rejected maxDeliveries"}; !slices.Equal(told, want) {
		t.Errorf("the sender was told %v, want %v", told, want)
	}
	if kept := p.stored(subjects.StreamEvent, subjects.Event(d.key, "rejected")); len(kept) != 1 {
		t.Errorf("%d messages are kept", len(kept))
	}
	c, err := inbox.ParseCursor(p.stored(layout.StreamCursor, layout.Cursor(d.key))[0].Data)
	if err != nil || len(c.Tries)+len(c.AckRequested) > 0 {
		t.Errorf("of what has ended the cursor keeps %v %v, %v", c.Tries, c.AckRequested, err)
	}
}
