package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// courier publishes numbered messages, as a service, for a listener.
type courier struct {
	t        *testing.T
	ledger   *ledger
	listener *listener
	next     int
}

// newCourier has a listener connect to an edge, until the test ends.
func newCourier(t *testing.T, data, devices string) *courier {
	t.Helper()
	keys, err := auth.OpenKeystore(data)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := keys.IssueDevice(receiver, auth.DeviceOptions{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	k := &courier{t: t, ledger: newLedger()}
	k.listener = &listener{
		name: string(receiver.User) + "/" + string(receiver.Device), url: wsURL(devices), token: cred.JWT, ledger: k.ledger,
	}
	ctx := t.Context()
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.listener.run(ctx)
	}()
	t.Cleanup(func() { <-done })
	eventually(t, "the listener is registered", k.listener.registered, new(string))
	return k
}

// publish stores n messages in all lanes in turn. What is not answered is published
// again, as every service does: a leader that gives up meanwhile answers nothing.
func (k *courier) publish(nc *nats.Conn, n int) {
	k.t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(askedAgain))
	if err != nil {
		k.t.Fatal(err)
	}
	for range n {
		lane, number := uint8(k.next%subjects.Lanes), k.next/subjects.Lanes
		k.next++
		f := flow{"service", k.listener.name, lane}
		m := nats.NewMsg(subjects.Inbox(receiver.Key(), subjects.Lane(lane)))
		m.Header.Set(subjects.HeaderType, "numbered")
		m.Data = fmt.Appendf(nil, `{"From":"service","Lane":%d,"N":%d,"Filler":%q}`, lane, number, strings.Repeat("x", 200))
		id, failed := fmt.Sprintf("courier-%d", k.next), ""
		eventually(k.t, "a message is stored", func() bool {
			ack, err := js.PublishMsg(k.t.Context(), m, jetstream.WithMsgID(id))
			if err != nil {
				failed = err.Error()
				return false
			}
			k.ledger.accept(f, number, ack.Sequence)
			return true
		}, &failed)
	}
}

// askedAgain is after how long a message that nobody has answered is published again.
const askedAgain = 10 * time.Second

// accounted waits until every message has come or is told lost.
func (k *courier) accounted(after string) {
	k.t.Helper()
	state := ""
	eventually(k.t, "all is accounted for after "+after, func() bool {
		state = strings.Join(k.ledger.missing(), "; ")
		return state == ""
	}, &state)
	sum := k.ledger.total(true)
	k.t.Logf("%-40s %+v", after, sum)
	for _, wrong := range k.ledger.errors() {
		k.t.Error(wrong)
	}
}

// Whatever of the files of inboxes, cursors and devices is damaged on a server
// alone: every message comes or is told lost, what comes again says so, and
// messages flow on.
func TestFault_DamageOfEveryStreamIsAccountedFor(t *testing.T) {
	t.Parallel()
	for _, stream := range damagedStreams {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
			s := newSingle(t, t.TempDir())
			defer s.health()
			s.startReady()
			k := newCourier(t, s.data, s.Devices)
			k.ledger.allow(wire.ReasonDamaged)
			for _, how := range spoils {
				k.publish(s.service(), 200)
				k.accounted("what was sent before")
				k.listener.pause()
				k.publish(s.service(), 200)
				s.stop(how, rnd)
				damageFiles(t, s.data, stream, how, rnd)
				s.startReady()
				k.listener.resume()
				k.accounted(how.name + " in " + stream)
			}
			k.publish(s.service(), 8)
			k.accounted("what was sent after")
		})
	}
}

// Whatever of those files is damaged on one server of three: every message comes
// from another copy, be it sent before and not acknowledged or not sent yet.
func TestFault_DamageOfOneCopyOfEveryStreamLosesNothing(t *testing.T) {
	c := newCluster(t)
	defer c.health()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	k := newCourier(t, c.plan.Data(), c.devices.Addr())
	for _, stream := range damagedStreams {
		how := spoils[rnd.IntN(len(spoils))]
		nc, _ := c.service(c.procs[0])
		k.listener.acknowledge(false)
		k.publish(nc, 40) // sent, and not acknowledged
		eventually(t, "they are sent", func() bool { return k.ledger.total(false).delivered == k.next }, new(string))
		k.listener.pause()
		k.publish(nc, 40)
		c.current()
		bad := c.procs[1+rnd.IntN(servers-1)]
		bad.stop(how, rnd)
		damageFiles(t, bad.data(), stream, how, rnd)
		bad.start()
		ready(t, c.procs)
		c.current()
		k.listener.acknowledge(true)
		k.listener.resume()
		k.accounted(how.name + " in " + stream + " of " + bad.Name)
		nc.Close()
	}
	if sum := k.ledger.total(true); sum.told > 0 || sum.delivered != k.next {
		t.Errorf("%d messages, and %+v", k.next, sum)
	}
}

// What is damaged in the files of a server that runs is read from another copy. A
// server that finds the end of its copy gone ends by itself; started again, it has
// what it lacked from the others.
func TestFault_DamageOfARunningCopyLosesNothing(t *testing.T) {
	need.Long(t, "it waits until a server has forgotten what it has in memory, twice")
	c := newCluster(t)
	defer c.health()
	defer c.supervise()()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	k := newCourier(t, c.plan.Data(), c.devices.Addr())
	nc, _ := c.service(c.procs[0])
	for _, how := range spoils[:2] {
		k.listener.acknowledge(false)
		k.publish(nc, 80) // sent, and not acknowledged
		eventually(t, "they are sent", func() bool { return k.ledger.total(false).delivered == k.next }, new(string))
		k.listener.pause()
		k.publish(nc, 80)
		c.current()
		damageFiles(t, c.procs[rnd.IntN(servers)].data(), layout.StreamInbox, how, rnd)
		for _, edge := range c.procs[servers:] { // which have them in memory
			edge.signal(syscall.SIGTERM)
			edge.start()
		}
		<-time.After(blockCache)
		ready(t, c.procs)
		k.listener.acknowledge(true)
		k.listener.resume()
		k.accounted(how.name + " while the server runs")
	}
	k.publish(nc, 8) // the copy may lack what it had last, and cannot store what follows
	k.accounted("what was sent after")
	c.current()
	if sum := k.ledger.total(true); sum.told > 0 || sum.delivered != k.next {
		t.Errorf("%d messages, and %+v", k.next, sum)
	}
}

// blockCache is longer than nats-server keeps a block in memory that nobody
// reads.
const blockCache = 15 * time.Second
