package inbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// A delayed message may come due while it is cancelled. Its sender must not hear
// that it has expired then. So who cancels it stores a mark in its place, by
// compare-and-set, and fails if the message has come due. The server starts no
// schedule that has been replaced. But it reads all that are due first, and stores
// them one by one later. So if the mark was stored after the message was due, the
// message may be on its way. Then a coordinator looks again when that has ended,
// and tells the sender if the message has not come. It does so too if whoever
// cancels the message ends too early.

// CancelSettles is how long after a mark was stored the message that it replaces
// may still come.
const CancelSettles = time.Minute

// Cancel replaces a delayed message by a mark and returns the mark's sequence; 0
// if the message has come due, or is gone. Without room for a mark, the mark is the
// message itself. certain: the message will not come any more.
// Then the caller has to tell its sender ([Waiting.Purged]) and remove the mark.
// Otherwise a coordinator does both.
func (w *Waiting) Cancel(ctx context.Context, js jetstream.JetStream, fetch *direct.Client, k *proof.Key) (mark uint64, certain bool, err error) {
	seq := strconv.FormatUint(w.Seq, 10)
	h := whoAsked(w.Header)
	h[layout.HeaderCancelled] = []string{seq + " " + k.Tag(proof.Cancelled, w.Subject, seq)}
	h[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject} // a server that starts would find the schedule again
	ack, err := js.PublishMsg(ctx, &nats.Msg{Subject: w.Subject, Header: h}, jetstream.WithExpectLastSequencePerSubject(w.Seq))
	switch {
	case storeerr.Full(err): // to cancel is how to make room
		return w.Seq, true, nil
	case storeerr.Lost(err): // it has come due, or another message has taken its place
		mark = w.Seq
	case err != nil:
		return 0, false, fmt.Errorf("inbox: cancel %s: %w", w.Subject, err)
	default:
		mark = ack.Sequence
	}
	there, err := fetch.AtLeader(ctx, subjects.StreamLater, w.Subject, mark)
	if err != nil || there == nil || there.Seq != mark { // a message that comes due removes all that are on its subject
		return 0, false, err
	}
	due, ok := w.Due()
	return mark, mark == w.Seq || ok && time.Unix(0, there.Time).Before(due), nil
}

// whoAsked returns of a message's header what its sender is told by.
func whoAsked(header nats.Header) nats.Header {
	h := make(nats.Header, len(header)+2)
	for name, values := range header {
		if !strings.HasPrefix(name, "Nats-") {
			h[name] = values
		}
	}
	if id := envelope.ID(header); id != "" {
		h.Set(subjects.HeaderID, id)
	}
	return h
}

// withdraw cancels what waits on some subjects of [subjects.StreamLater], for the
// device that sent it: it is told how many will not come any more. One that comes due
// meanwhile, or may be on its way, is not counted. A coordinator tells of it if it does
// not come.
func withdraw(ctx context.Context, js jetstream.JetStream, fetch *direct.Client, k *proof.Key, names []string) (n uint64, err error) {
	stream, err := js.Stream(ctx, subjects.StreamLater)
	if err != nil {
		return 0, fmt.Errorf("inbox: stream %s: %w", subjects.StreamLater, err)
	}
	for _, name := range names {
		m, err := fetch.AtLeader(ctx, subjects.StreamLater, name, 1)
		if err != nil {
			return n, fmt.Errorf("inbox: read %s: %w", name, err)
		}
		if m == nil {
			continue
		}
		if _, cancelled := CancelledBy(k, (*reader.Entry)(m)); cancelled {
			continue
		}
		w := Waiting{Stream: subjects.StreamLater, Subject: name, Seq: m.Seq, Header: m.Header}
		mark, certain, err := w.Cancel(ctx, js, fetch, k)
		if err == nil && certain {
			err = stream.Purge(ctx, jetstream.WithPurgeSubject(name), jetstream.WithPurgeSequence(mark+1))
		}
		switch {
		case err != nil:
			return n, fmt.Errorf("inbox: cancel %s: %w", name, err)
		case certain:
			n++
		}
	}
	return n, nil
}

// Withdraw cancels the delayed messages on some subjects for the device that sent
// them. It returns how many will not come any more.
func (h *Hub) Withdraw(ctx context.Context, names []string) (uint64, error) {
	return withdraw(ctx, h.js, h.fetch, h.opts.Publish.Proof, names)
}

// Withdraw is [Hub.Withdraw].
func (s *Cursors) Withdraw(ctx context.Context, names []string) (uint64, error) {
	return withdraw(ctx, s.inbox.js, s.fetch, s.publish.Proof, names)
}

// Due is when a delayed message is delivered; false if its schedule cannot be
// read.
func (w *Waiting) Due() (time.Time, bool) {
	at, found := strings.CutPrefix(envelope.Value(w.Header, "Nats-Schedule"), "@at ")
	due, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(at))
	return due, found && err == nil
}

// CancelledBy returns the message that e is the mark of; false if it is no mark.
func CancelledBy(k *proof.Key, e *reader.Entry) (*Waiting, bool) {
	text, tag, ok := strings.Cut(envelope.Value(e.Header, layout.HeaderCancelled), " ")
	seq, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil || !k.Is(tag, proof.Cancelled, e.Subject, text) {
		return nil, false
	}
	return &Waiting{Stream: subjects.StreamLater, Subject: e.Subject, Seq: seq, Header: e.Header}, true
}

// CameDue reports whether a cancelled message has come due all the same.
func (w *Waiting) CameDue(ctx context.Context, fetch *direct.Client) (bool, error) {
	key, lane, _ := subjects.ParseLater(w.Subject)
	for from := w.Seq + 1; ; {
		m, err := fetch.AtLeader(ctx, subjects.StreamLater, layout.Due(key, lane), from)
		if err != nil || m == nil {
			return false, err
		}
		if fetch.Shard().Plain(m.Header.Get("Nats-Scheduler")) == w.Subject {
			return true, nil
		}
		from = m.Seq + 1
	}
}
