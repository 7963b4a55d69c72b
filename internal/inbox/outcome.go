package inbox

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// outcome is how a message ended, for a sender that asked or for the list of
// rejected messages.
type outcome struct {
	key       subjects.Key
	lane      subjects.Lane
	seq       uint64
	requester *ackRequester
	status    wire.Status
	reason    string
	stored    int64 // when the message was stored, Unix nanoseconds
	// again: an outcome of the message may be stored already, so long ago that
	// the store's dedup window does not cover it.
	again bool
	at    int64 // Unix nanoseconds
}

// outcomeWriter stores outcomes in order, and then has the messages finalized.
// The windows of the devices bound what waits.
type outcomeWriter struct {
	publish   *Publisher
	keep      func(outcome) (bool, error) // stores that a message is kept as rejected, unless it is gone
	told      func([]outcome) earlier     // finds out which are stored
	finalized func(outcome)
	log       *slog.Logger
	kick      wake.Signal // waiting is not empty
	quit      chan struct{}
	done      chan struct{}

	mu      sync.Mutex
	waiting []outcome
	open    int           // not stored
	empty   chan struct{} // closed when open becomes 0; nil unless waited for
}

func newOutcomeWriter(
	p *Publisher, keep func(outcome) (bool, error), told func([]outcome) earlier, finalized func(outcome), log *slog.Logger,
) *outcomeWriter {
	return &outcomeWriter{
		publish: p, keep: keep, told: told, finalized: finalized, log: log, kick: wake.New(), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// add never blocks; it is called with a mailbox locked.
func (w *outcomeWriter) add(o outcome) {
	w.mu.Lock()
	w.open++
	w.mu.Unlock()
	w.queue(o)
}

func (w *outcomeWriter) queue(o outcome) {
	w.mu.Lock()
	w.waiting = append(w.waiting, o)
	w.mu.Unlock()
	w.kick.Set()
}

func (w *outcomeWriter) start() { go w.run() }

func (w *outcomeWriter) run() {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		case <-w.kick:
		}
		w.mu.Lock()
		all := w.waiting
		w.waiting = nil
		w.mu.Unlock()
		var again []outcome // to be looked up, which may take long: the others go first
		for _, o := range all {
			if o.again {
				again = append(again, o)
			} else {
				w.store(o)
			}
		}
		before := w.told(again)
		for _, o := range again {
			switch b := before[o.seq]; {
			case b.err != nil:
				w.retry(o, b.err)
			case b.told:
				w.landed(o)
			default:
				w.store(o)
			}
		}
	}
}

// stop waits until all outcomes are stored or ctx ends. Messages whose outcomes
// are not stored by then are sent again.
func (w *outcomeWriter) stop(ctx context.Context) {
	w.mu.Lock()
	wait := make(chan struct{})
	if w.open == 0 {
		close(wait)
	} else {
		w.empty = wait
	}
	w.mu.Unlock()
	select {
	case <-wait:
	case <-ctx.Done():
	}
	close(w.quit)
	select {
	case <-w.done:
	case <-ctx.Done(): // run waits for the publisher, and ends when that is stopped
	}
}

// outcomeAgain is how long after a failure an outcome is stored again.
const outcomeAgain = time.Second

func (w *outcomeWriter) store(o outcome) {
	if kept(o.status) {
		stored, err := w.keep(o)
		if err != nil {
			w.retry(o, err)
			return
		}
		if stored && o.requester != nil && o.requester.from == "" { // a service hears that event
			w.landed(o)
			return
		}
	}
	msg := o.message(w.publish.Proof)
	if msg == nil { // nobody can be told
		w.landed(o)
		return
	}
	w.publish.Publish(msg, func(_ Receipt, err error) {
		if err == nil {
			w.landed(o)
			return
		}
		w.retry(o, err)
	})
}

// retry stores an outcome again after a while, unless the writer has stopped.
func (w *outcomeWriter) retry(o outcome, err error) {
	select {
	case <-w.quit:
	default:
		w.log.Warn("outcome not stored, trying again", "device", string(o.key), "seq", o.seq, "err", err)
		time.AfterFunc(outcomeAgain, func() { w.queue(o) })
	}
}

func (w *outcomeWriter) landed(o outcome) {
	w.finalized(o)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open--; w.open == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// message returns the outcome as it is stored: in the inbox of the device that
// asked, or as an event for a service. Its Nats-Msg-Id names the message, so that
// the first of several outcomes counts. It is nil if the sender cannot be told.
func (o *outcome) message(k *proof.Key) *nats.Msg {
	to, err := o.key.Address()
	if err != nil || o.requester == nil {
		return nil
	}
	if o.requester.from == "" {
		return o.event(to)
	}
	return o.notice(k, outcomeID(o.seq), strconv.FormatUint(o.seq, 10))
}

// notice returns the outcome for the device that asked; nil if it cannot be told.
// dedup makes its Nats-Msg-Id differ from others.
func (o *outcome) notice(k *proof.Key, id, dedup string) *nats.Msg {
	to, err := o.key.Address()
	from := subjects.Address{User: to.User, Device: subjects.DeviceID(o.requester.from)}
	if err != nil || from.Check() != nil {
		return nil
	}
	body := wire.Outcome{OriginalID: o.requester.id, Status: o.status, DeviceID: to.Device, Reason: o.reason}
	if o.status == wire.StatusDelivered {
		body.DeliveredAt = wire.FormatTime(time.Unix(0, o.at))
	}
	msg := Notice(k, from.Key(), o.lane, id, dedup, body.AppendPayload(nil))
	msg.Header[subjects.HeaderTimestamp] = []string{wire.FormatTime(time.Unix(0, o.at))}
	return msg
}

func (o *outcome) event(to subjects.Address) *nats.Msg {
	kind := string(o.status)
	body, err := json.Marshal(struct {
		Kind   string `json:"kind"`
		User   string `json:"user"`
		Device string `json:"device"`
		At     string `json:"at"`
		ID     string `json:"id"`
		Type   string `json:"type,omitempty"`
		Lane   string `json:"lane"`
		Seq    uint64 `json:"seq"`
		Reason string `json:"reason,omitempty"`
	}{
		kind, string(to.User), string(to.Device), time.Unix(0, o.at).UTC().Format(time.RFC3339Nano),
		o.requester.id, o.requester.kind, o.lane.String(), o.seq, o.reason,
	})
	if err != nil {
		return nil
	}
	return &nats.Msg{
		Subject: subjects.Event(o.key, kind), Data: body,
		Header: nats.Header{jetstream.MsgIDHeader: {eventID(o.seq, o.requester.id)}},
	}
}

// eventID is the Nats-Msg-Id of an event about the end of a message. The first
// end counts. The id is in it because a stream that has lost its end gives the seq to
// another message.
func eventID(seq uint64, id string) string {
	return eventPrefix + strconv.FormatUint(seq, 10) + "/" + id
}

// ParseEventID returns the seq and the id of the message whose end an event tells, by
// the event's Nats-Msg-Id; false if it is no such event. Earlier versions had no id.
func ParseEventID(msgID string) (seq uint64, id string, ok bool) {
	rest, ok := strings.CutPrefix(msgID, eventPrefix)
	if !ok {
		return 0, "", false
	}
	rest, id, _ = strings.Cut(rest, "/")
	seq, err := strconv.ParseUint(rest, 10, 64)
	return seq, id, err == nil
}

const eventPrefix = "event/outcome/"

// keepOutcome stores that a message is kept as rejected. It reports whether it is: a
// message that is gone is not.
func (h *Hub) keepOutcome(o outcome) (bool, error) {
	ctx, cancel := context.WithTimeout(h.closing, keepTimeout)
	defer cancel()
	return h.keep(ctx, &o)
}

// outcomesTold finds out which outcomes were stored before. Each read has its own
// time-out: together they may take long, and would begin anew.
func (h *Hub) outcomesTold(all []outcome) earlier {
	return told(h.closing, h.fetch, h.opts.Publish.Proof, all)
}

// keepTimeout bounds the storing of one rejected message's event.
const keepTimeout = 10 * time.Second
