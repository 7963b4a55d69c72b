package edge

import (
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// single is a message for one device on its way to the store, with all that is
// needed until it is stored. It is used again when the publisher says that it
// has no more use for the message.
type single struct {
	pendingStore
	form     envelope.Form
	target   [1]subjects.DeviceID
	answered func(inbox.Receipt, error) // bound once
}

var singles sync.Pool

func newSingle() *single {
	if o, ok := singles.Get().(*single); ok {
		return o
	}
	o := new(single)
	o.answered = o.done
	return o
}

// storeSingle is [conn.store] for a message that form has the address of.
func (c *conn) storeSingle(e *wire.Envelope, device subjects.DeviceID, o *single) {
	c.s.metrics.received.Inc()
	c.mu.Lock()
	c.inflight++
	c.mu.Unlock()
	o.target[0] = device
	o.pendingStore = pendingStore{c: c, id: e.ID, wantsAck: e.RequiresAck, start: time.Now(), targets: o.target[:]}
	c.tenant.Publisher.Publish(o.form.Inbox(e, c.sender()), o.answered)
}

// done is called on the publisher's goroutine, which must not wait.
func (o *single) done(r inbox.Receipt, err error) {
	again := r.Free && err == nil && !r.Duplicate // a repeat has more to do
	o.pendingStore.done(inbox.BatchReceipt{First: r.Seq, Last: r.Seq, Duplicate: r.Duplicate}, err)
	if again {
		o.release()
	}
}

// release gives it back. Nobody else may have it.
func (o *single) release() {
	o.form.Reset(keepBuffer)
	o.pendingStore, o.target[0] = pendingStore{}, ""
	singles.Put(o)
}
