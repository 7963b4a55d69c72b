package ops_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

// Sent and owed, or never sent, in all lanes, in the order of storage.
func TestMissedIsWhatTheCursorDoesNotSettle(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var normal, low []uint64
	for i := range 6 {
		normal = append(normal, p.store(phone, subjects.Normal, fmt.Sprintf("n%d", i)))
		low = append(low, p.store(phone, subjects.Low, fmt.Sprintf("l%d", i)))
		p.store(desktop, subjects.Normal, "other")
	}
	if got := p.missed(phone); len(got) != 12 || got[0] != "n0" || got[1] != "l0" || got[11] != "l5" {
		t.Errorf("with no cursor %q are missed", got)
	}
	c := inbox.Cursor{Open: true}
	c.Sent[subjects.Normal], c.Unacked[subjects.Normal] = normal[3], []uint64{normal[1], normal[3]}
	c.Sent[subjects.Low] = low[5]
	p.acknowledge(phone, c)
	if got, want := p.missed(phone), []string{"n1", "n3", "n4", "n5"}; !slices.Equal(got, want) {
		t.Errorf("%q are missed, want %q", got, want)
	}
	c.Sent[subjects.Normal], c.Unacked[subjects.Normal] = normal[5], nil
	p.acknowledge(phone, c)
	if got := p.missed(phone); len(got) != 0 {
		t.Errorf("%q are missed although all is acknowledged", got)
	}
	if got := p.missed(desktop); len(got) != 6 {
		t.Errorf("of the other device %q are missed", got)
	}
}

// Far more than one read brings, with long runs of acknowledged messages.
func TestMissedOfALongLane(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fill(1, 4000)
	a := numbered(0)
	if got := p.missed(a); len(got) != 4000 || got[1] != "m0-1" || got[3999] != "m0-3999" {
		t.Fatalf("%d are missed", len(got))
	}
	c := inbox.Cursor{}
	for l := range c.Sent {
		c.Sent[l] = 3000
	}
	c.Unacked[1] = []uint64{2, 2502} // sequences begin at 1, in lane 0
	p.acknowledge(a, c)
	got := p.missed(a)
	if len(got) != 1002 || got[0] != "m0-1" || got[1] != "m0-2501" || got[2] != "m0-3000" {
		t.Errorf("%d are missed: %q", len(got), got[:3])
	}
}

// A message is shown as its device is shown it.
func TestMissedShowsWhatTheDeviceIsShown(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.High, "", "Nats-Msg-Id", "from a service")
	p.store(phone, subjects.High, "x", subjects.HeaderType, "note", subjects.HeaderFrom, "desktop", subjects.HeaderTimestamp, "2026-01-02T03:04:05Z")
	p.store(phone, subjects.Normal, "")
	p.store(phone, subjects.Normal, "y", subjects.HeaderType, "Not A Type")
	p.store(phone, subjects.Low, "z", subjects.HeaderType, "ack")
	var lines []string
	for m, err := range p.Missed(t.Context(), phone) {
		check(t, err)
		b, err := json.Marshal(m.Summary())
		check(t, err)
		var o map[string]any
		check(t, json.Unmarshal(b, &o))
		if o["timestamp"] == "" || o["stored"] == "" {
			t.Errorf("no time in %s", b)
		}
		if o["id"] == "x" && o["timestamp"] != "2026-01-02T03:04:05Z" {
			t.Errorf("its sender's time is %s", o["timestamp"])
		}
		lines = append(lines, fmt.Sprintf("%v %v %v %v %v", o["seq"], o["lane"], o["id"], o["type"], o["from"]))
	}
	want := []string{
		"1 high from a service notification service:nats", "2 high x note desktop",
		"3 normal seq-3 notification service:nats", "4 normal y notification service:nats", "5 low z ack server",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("shown as\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestUnknownDevicesAreTold(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.register(desktop, `{"type":"desktop"}`)
	p.store(bob, subjects.Normal, "b")
	p.acknowledge(bob, inbox.Cursor{Sent: [4]uint64{0, 1}})
	p.acknowledge(phone, inbox.Cursor{Sent: [4]uint64{0, 1}}) // as one that is forgotten leaves it
	for _, known := range []subjects.Address{desktop, bob} {
		if got := p.missed(known); len(got) != 0 {
			t.Errorf("%s missed %q", known, got)
		}
	}
	for _, err := range p.Missed(t.Context(), phone) {
		if !errors.Is(err, ops.ErrUnknownDevice) {
			t.Errorf("missed: %v", err)
		}
	}
	if _, err := p.Replay(t.Context(), ops.ReplayOptions{From: phone, Missed: true}); !errors.Is(err, ops.ErrUnknownDevice) {
		t.Errorf("replay: %v", err)
	}
	if _, err := p.Replay(t.Context(), ops.ReplayOptions{From: desktop, To: phone, Missed: true}); !errors.Is(err, ops.ErrUnknownDevice) {
		t.Errorf("replay to: %v", err)
	}
	if _, err := p.Inbox(t.Context(), phone); !errors.Is(err, ops.ErrUnknownDevice) {
		t.Errorf("inbox: %v", err)
	}
	if _, err := p.Purge(t.Context(), phone, ops.PurgeOptions{}); !errors.Is(err, ops.ErrUnknownDevice) {
		t.Errorf("purge: %v", err)
	}
}

func TestAnAccountWithoutStreamsIsTold(t *testing.T) {
	t.Parallel()
	tenant := open(t, natstest.Server(t))
	for _, err := range tenant.Missed(t.Context(), phone) {
		if !errors.Is(err, ops.ErrNotInstalled) {
			t.Errorf("missed: %v", err)
		}
	}
	if _, _, err := tenant.Inboxes(t.Context(), ops.InboxQuery{}); !errors.Is(err, ops.ErrNotInstalled) {
		t.Errorf("inboxes: %v", err)
	}
	if _, err := tenant.Replay(t.Context(), ops.ReplayOptions{From: phone, Missed: true}); !errors.Is(err, ops.ErrNotInstalled) {
		t.Errorf("replay: %v", err)
	}
}
