package inbox

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/storeerr"
)

// MaxBatch is how many messages an atomic batch may have: nats-server's limit.
const MaxBatch = 1000

// BatchReceipt says where the messages of a batch were stored: at the sequences
// from First to Last, in order.
type BatchReceipt struct {
	First, Last uint64
	// Duplicate reports whether the batch was stored before, within the dedup
	// window, perhaps for other recipients. First and Last are then both the
	// sequence of its first message, or 0 if that is not known.
	Duplicate bool
}

// Headers of an atomic batch (ADR-50).
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// PublishBatch stores all of the messages or none of them, in one stream and at
// consecutive sequences. Each message needs a header of its own. Their
// Nats-Msg-Ids are stored together or not at all, so a repeat of one is a repeat
// of the batch. Otherwise it behaves like [Publisher.Publish].
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
		switch {
		case storeerr.Repeated(err):
			done(BatchReceipt{Duplicate: true}, nil)
		case err != nil:
			done(BatchReceipt{}, err)
		case r.Duplicate: // storedBefore found it
			done(BatchReceipt{First: r.Seq, Last: r.Seq, Duplicate: true}, nil)
		default:
			done(BatchReceipt{First: r.Seq - uint64(len(msgs)) + 1, Last: r.Seq}, nil)
		}
	}})
}

// Seal sets the headers that make the messages, sent one after the other, one batch.
// A batch that is sent again needs a new id.
func Seal(msgs ...*nats.Msg) {
	id := nuid.Next()
	for i, m := range msgs {
		m.Header[headerBatchID] = []string{id}
		m.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
	}
	msgs[len(msgs)-1].Header[headerBatchCommit] = []string{"1"}
}

// Unseal makes a message one that is sent alone.
func Unseal(m *nats.Msg) {
	for _, name := range []string{headerBatchID, headerBatchSequence, headerBatchCommit} {
		delete(m.Header, name)
	}
}
