package inbox

import (
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A delayed message that another one on its subject replaces is gone in the moment in
// which that one is stored. Whoever stores the new one may end before the sender of
// the old one is told. So a note of the old one is stored together with the new one,
// all or nothing. Where it lies, nobody else stores anything. A coordinator that reads
// it tells the sender, and then removes it.

// Displaced returns the note of a stored delayed message, or of the mark of one that
// was cancelled; nil if nobody has to be told when it is replaced.
func Displaced(k *proof.Key, e *reader.Entry) *nats.Msg {
	key, lane, ok := subjects.ParseLater(e.Subject)
	if !ok || displaced(k, e) == nil {
		return nil
	}
	seq := strconv.FormatUint(e.Seq, 10)
	m := &nats.Msg{Subject: subjects.Later(key, lane, k.Tag(proof.Displaced, seq, e.Subject)), Header: whoAsked(e.Header)}
	m.Header[layout.HeaderDisplaced] = []string{seq + " " + e.Subject + " " + k.Tag(proof.Displaced, seq, e.Subject, m.Subject)}
	return m
}

// DisplacedBy returns what tells the sender of the message that e is the note of; nil
// if nobody is to be told, and false if e is no note.
func DisplacedBy(k *proof.Key, e *reader.Entry) (told *nats.Msg, ok bool) {
	fields := strings.Fields(e.Header.Get(layout.HeaderDisplaced))
	if len(fields) != 3 || !k.Is(fields[2], proof.Displaced, fields[0], fields[1], e.Subject) {
		return nil, false
	}
	seq, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return nil, false
	}
	return displaced(k, &reader.Entry{Subject: fields[1], Seq: seq, Header: e.Header}), true
}

// displaced returns what tells the sender of a delayed message, or of a cancelled one
// by its mark, that another one has taken its place; nil: nobody asked.
func displaced(k *proof.Key, e *reader.Entry) *nats.Msg {
	if was, cancelled := CancelledBy(k, e); cancelled {
		return was.Purged(k)
	}
	w := Waiting{Stream: subjects.StreamLater, Subject: e.Subject, Seq: e.Seq, Header: e.Header}
	return w.Replaced(k)
}

// Ended reports whether e, which lies where delayed messages do, stands for one that
// does not come any more.
func Ended(k *proof.Key, e *reader.Entry) bool {
	_, cancelled := CancelledBy(k, e)
	_, displaced := DisplacedBy(k, e)
	return cancelled || displaced
}
