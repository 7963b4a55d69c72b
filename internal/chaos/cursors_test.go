package chaos_test

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
)

// With three copies a cursor is stored by a majority before it counts. So when
// the cursor stream's leader dies with acknowledgements that were just made, what
// comes again at another edge says so; likewise when it can write no more.
func TestFault_AcknowledgementsOutliveTheCursorsLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	defer c.health()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	edge := 0
	k := newCourier(t, c.plan.Data(), c.procs[servers].Devices)
	for _, f := range []struct {
		name string
		make func(leader *proc)
	}{
		{"SIGKILL of the cursors' leader", func(leader *proc) { leader.signal(syscall.SIGKILL) }},
		{"SIGSTOP of the cursors' leader", func(leader *proc) { leader.signal(syscall.SIGSTOP) }},
		{"a leader of the cursors that can write no more", func(leader *proc) {
			leader.limitFiles()
			leader.endsBroken()
		}},
	} {
		leader := c.leader(layout.StreamCursor, rnd)
		other := c.procs[0]
		if other == leader {
			other = c.procs[1]
		}
		nc, _ := c.service(other)
		k.publish(nc, 100)
		// At the wrong moment: some of them are acknowledged, and no cursor that
		// says so can be stored by this leader any more.
		eventually(t, "some are acknowledged", func() bool { return k.ledger.total(false).delivered > k.next-60 }, new(string))
		f.make(leader)
		edge = 1 - edge // the device goes to the other edge, which knows what is stored alone
		k.listener.move(wsURL(c.procs[servers+edge].Devices))
		k.accounted(f.name)
		if leader.exited() {
			leader.start()
		} else {
			leader.signal(syscall.SIGCONT)
		}
		ready(t, c.procs)
		c.current()
		nc.Close()
	}
	k.listener.pause()
	k.listener.resume()
	nc, _ := c.service(c.procs[0])
	k.publish(nc, 8)
	k.accounted("all of it")
	if sum := k.ledger.total(true); sum.delivered != k.next || sum.told > 0 {
		t.Errorf("%d messages, and %+v", k.next, sum)
	}
}
