package inbox_test

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// TestEveryMessageReachesOneEnd sends, connects, acknowledges, rejects, restarts,
// kills, purges and lets retention take messages, at random. Then every message
// of a lane was acknowledged, or rejected, or is counted in a gap, and no gap
// counts more than what is gone. A sender that asked hears one outcome at most.
func TestEveryMessageReachesOneEnd(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = flag.Set("rapid.checks", "15")
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t)
		defer m.close()
		rt.Repeat(map[string]func(*rapid.T){
			"send":      m.send,
			"connect":   func(rt *rapid.T) { m.connect(m.pick(rt)) },
			"leave":     func(rt *rapid.T) { m.leave(m.pick(rt)) },
			"take":      func(rt *rapid.T) { m.take(m.pick(rt), rapid.IntRange(1, 5).Draw(rt, "messages")) },
			"answer":    m.answer,
			"retention": m.retention,
			"purge":     func(rt *rapid.T) { m.purge(m.pick(rt)) },
			"restart":   func(rt *rapid.T) { m.restart(rapid.Bool().Draw(rt, "kill")) },
		})
		m.check(rt)
	})
}

// model is a system and what its devices saw.
type model struct {
	*system
	devices []*modelDevice
	next    int // body of the next message
}

// modelDevice is what one device was sent and told.
type modelDevice struct {
	key      subjects.Key
	d        *device // nil while it is away
	last     uint64  // sequence of the last message for it
	sent     [subjects.Lanes]int
	ended    [subjects.Lanes]map[uint64]bool // acknowledged or rejected
	asked    map[string]struct{}             // ids of messages whose sender asked
	open     []envelope.Delivery             // received here and not answered
	gaps     [subjects.Lanes]uint64          // told and confirmed
	pending  []wire.Gap                      // told, and nothing received since was acknowledged
	received int                             // how many of open came before the last of pending
}

func newModel(t *testing.T) *model {
	m := &model{system: newSystem(t, func(o *inbox.Options) { o.Edge = "here" })}
	for _, name := range []subjects.DeviceID{"phone", "tab"} {
		d := &modelDevice{key: subjects.Address{User: "alice", Device: name}.Key(), asked: make(map[string]struct{})}
		for n := range d.ended {
			d.ended[n] = make(map[uint64]bool)
		}
		m.devices = append(m.devices, d)
	}
	return m
}

func (m *model) close() {
	for _, d := range m.devices {
		m.leave(d)
	}
	m.stop()
}

func (m *model) pick(rt *rapid.T) *modelDevice {
	return rapid.SampledFrom(m.devices).Draw(rt, "device")
}

func (m *model) send(rt *rapid.T) {
	d := m.pick(rt)
	lane := subjects.Lane(rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(rt, "lane"))
	for range rapid.IntRange(1, 4).Draw(rt, "messages") {
		m.next++
		id := "m" + strconv.Itoa(m.next)
		msg := &nats.Msg{Subject: subjects.Inbox(d.key, lane), Data: []byte(strconv.Itoa(m.next)), Header: nats.Header{
			subjects.HeaderID: {id},
		}}
		if rapid.Bool().Draw(rt, "asks") {
			msg.Header[subjects.HeaderAck] = []string{"true"}
			msg.Header[subjects.HeaderFrom] = []string{"desk"}
			msg.Header[layout.HeaderProof] = []string{m.pub.Proof.Tag(proof.Sender, "alice", "desk", id)}
			d.asked[id] = struct{}{}
		}
		stored, err := m.js.PublishMsg(m.t.Context(), msg)
		if err != nil {
			rt.Fatal(err)
		}
		d.last = stored.Sequence
		d.sent[lane]++
	}
}

func (m *model) connect(d *modelDevice) {
	if d.d != nil {
		m.leave(d)
	}
	d.d = m.attach(d.key, 8)
	d.pending, d.open = nil, nil // what is not confirmed is told again
}

func (m *model) leave(d *modelDevice) {
	if d.d == nil {
		return
	}
	d.d.mailbox.Detach()
	d.d = nil
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	if err := m.hub.Release(ctx, d.key); err != nil {
		m.t.Fatal(err)
	}
}

// take receives what there is, one message at a time, so that it is known what
// came after a gap.
func (m *model) take(d *modelDevice, n int) {
	if d.d == nil {
		return
	}
	m.caughtUp()
	for range n {
		got := d.d.mailbox.Next(nil, 1, 1<<20)
		if gaps := d.d.mailbox.Gaps(); len(gaps) > 0 {
			d.pending = append(d.pending, gaps...)
			d.received = len(d.open)
		}
		if len(got) == 0 {
			return
		}
		d.open = append(d.open, got...)
	}
}

// answer acknowledges or rejects one message.
func (m *model) answer(rt *rapid.T) {
	d := m.pick(rt)
	if d.d == nil || len(d.open) == 0 {
		return
	}
	m.finish(d, rapid.IntRange(0, len(d.open)-1).Draw(rt, "message"), rapid.Bool().Draw(rt, "rejects"))
}

// finish answers an open message. What came before the last gap is answered
// without confirming it.
func (m *model) finish(d *modelDevice, i int, reject bool) {
	one := d.open[i]
	d.open = append(d.open[:i:i], d.open[i+1:]...)
	if i < d.received {
		d.received--
	} else {
		for _, g := range d.pending {
			lane, _ := subjects.ParseLane(g.Lane)
			d.gaps[lane] += g.Count
		}
		d.pending = nil
	}
	if reject {
		d.d.mailbox.Reject(one.Seq, "no")
	} else {
		d.d.mailbox.Ack(one.Seq)
	}
	d.ended[one.Lane][one.Seq] = true
}

// retention takes the oldest messages of the stream. Devices are away: what is
// on its way to one may be acknowledged, though it is gone.
func (m *model) retention(rt *rapid.T) {
	m.caughtUp()
	for _, d := range m.devices {
		m.leave(d)
	}
	last := m.hub.Head()
	if last == 0 {
		return
	}
	m.purgeBelow(rapid.Uint64Range(1, last+1).Draw(rt, "first"))
	m.restart(false) // the tail of a hub still has what is gone
}

func (m *model) purge(d *modelDevice) {
	m.leave(d)
	m.eventually("the messages are counted", func() bool { // a hub that is killed before that cannot know of them
		c := m.storedCursorOf(d.key)
		return c.UpTo >= d.last
	})
	m.system.purge(d.key)
}

func (m *model) restart(kill bool) {
	for _, d := range m.devices {
		m.leave(d)
	}
	if kill {
		m.caughtUp()
		m.abandon()
	} else {
		m.stop()
	}
	m.start(func(o *inbox.Options) { o.Edge = "here" })
}

// check has all devices take and acknowledge all that is left.
func (m *model) check(rt *rapid.T) {
	for _, d := range m.devices {
		m.connect(d)
		for _, lane := range []subjects.Lane{subjects.Normal, subjects.High} { // so that each gap is confirmed
			m.next++
			m.put(d.key, lane, m.next, 1)
			d.sent[lane]++
		}
		deadline := time.After(waitTimeout)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for m.accounts(d) != "" {
			m.take(d, 1<<10)
			for len(d.open) > 0 {
				m.finish(d, 0, false)
			}
			select {
			case <-d.d.woken:
			case <-tick.C:
			case <-deadline:
				rt.Fatal(m.accounts(d))
			}
		}
	}
	m.checkOutcomes(rt)
}

// accounts says which lane does not add up.
func (m *model) accounts(d *modelDevice) string {
	for lane := range d.sent {
		if got := len(d.ended[lane]) + int(d.gaps[lane]); got != d.sent[lane] {
			return fmt.Sprintf("%s: lane %d was sent %d messages: %d ended, %d are told lost (%v not confirmed)",
				d.key, lane, d.sent[lane], len(d.ended[lane]), d.gaps[lane], d.pending)
		}
	}
	return ""
}

// checkOutcomes looks at what the sender heard.
func (m *model) checkOutcomes(rt *rapid.T) {
	for _, d := range m.devices {
		m.leave(d)
	}
	heard := make(map[string]int)
	sender := m.attach(desk, 1000)
	m.caughtUp()
	for {
		got := sender.mailbox.Next(nil, 1, 1<<20)
		if len(got) == 0 {
			break
		}
		a, err := wire.DecodeAnswer(got[0].Data)
		if err != nil {
			rt.Fatal(err)
		}
		heard[a.OriginalMessageID]++
		sender.mailbox.Ack(got[0].Seq)
	}
	for _, d := range m.devices {
		for id := range d.asked {
			if n := heard[id]; n > 1 {
				rt.Fatalf("the sender of %s heard %d outcomes", id, n)
			}
		}
	}
}
