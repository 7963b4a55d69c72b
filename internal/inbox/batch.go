package inbox

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/storeerr"
)

// MaxBatch is how many messages an atomic batch may have: nats-server's limit.
const MaxBatch = 1000

// BatchReceipt says where the messages of a batch were stored: they have the
// sequences from First to Last, in their order.
type BatchReceipt struct {
	First, Last uint64
	// Duplicate says that the batch was stored before, inside the dedup
	// window, perhaps with other recipients. First is where the earlier one
	// begins; Last is not known and equals it.
	Duplicate bool
}

// Headers of an atomic batch (ADR-50).
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// Error codes of JetStream.
const (
	errCodeBatchDuplicate = 10201
)

// PublishBatch stores all of the messages or none of them, in one stream and
// with sequences one after the other. It is like [Publisher.Publish] else; each
// message needs a header of its own. The Nats-Msg-Id of the first is the
// batch's: a repeat of it is a repeat of the batch.
func (p *Publisher) PublishBatch(msgs []*nats.Msg, done func(BatchReceipt, error)) {
	switch n := len(msgs); {
	case n == 1:
		p.Publish(msgs[0], func(r Receipt, err error) {
			done(BatchReceipt{First: r.Seq, Last: r.Seq, Duplicate: r.Duplicate}, err)
		})
		return
	case n == 0 || n > MaxBatch:
		done(BatchReceipt{}, fmt.Errorf("inbox: a batch of %d messages: 1 to %d are possible", n, MaxBatch))
		return
	}
	size := 0
	for _, m := range msgs {
		size += len(m.Data)
	}
	p.send(pendingPublish{batch: msgs, size: size, done: func(r Receipt, err error) {
		var refused *StoreError
		switch {
		case err == nil:
			done(BatchReceipt{First: r.Seq - uint64(len(msgs)) + 1, Last: r.Seq}, nil)
		case errors.As(err, &refused) && (refused.ErrCode == errCodeBatchDuplicate || refused.ErrCode == storeerr.IDInProcess):
			// Publish may wait, which the caller of this function must not.
			go p.earlier(msgs[0], done)
		default:
			done(BatchReceipt{}, err)
		}
	}})
}

// seal makes one batch of the messages. A batch that is sent again needs a new
// id.
func seal(msgs []*nats.Msg) {
	id := nuid.Next()
	for i, m := range msgs {
		m.Header[headerBatchID] = []string{id}
		m.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
	}
	msgs[len(msgs)-1].Header[headerBatchCommit] = []string{"1"}
}

// noMsgID is a message id that no message has, for it is too long for one of
// ours and names nobody.
const noMsgID = "rccs/none"

// earlier finds out where the earlier batch begins.
func (p *Publisher) earlier(first *nats.Msg, done func(BatchReceipt, error)) {
	p.Find(first.Subject, first.Header.Get(jetstream.MsgIDHeader), func(seq uint64, err error) {
		// When it is not found, another message of the batch was the repeat,
		// or the window has just ended: it is not known that this one is
		// stored.
		if err != nil {
			done(BatchReceipt{}, fmt.Errorf("inbox: repeat of a batch: %w", err))
			return
		}
		done(BatchReceipt{First: seq, Last: seq, Duplicate: true}, nil)
	})
}

// Find says where the message with a Nats-Msg-Id was stored inside the dedup
// window. A message with that id is sent to a subject of the stream under a
// condition that is never true and that nats-server looks at after it has
// looked for a repeat. So nothing is stored.
func (p *Publisher) Find(subject, msgID string, done func(seq uint64, err error)) {
	probe := &nats.Msg{Subject: subject, Header: nats.Header{
		jetstream.MsgIDHeader: {msgID}, jetstream.ExpectedLastMsgIDHeader: {noMsgID},
	}}
	p.Publish(probe, func(r Receipt, err error) {
		if err == nil && !r.Duplicate {
			err = errors.New("inbox: a probe was stored")
		}
		done(r.Seq, err)
	})
}
