package client

import "github.com/rccs-io/rccs/wire"

// remembered is how many handled messages are remembered at least. The edge can
// send again what was not acknowledged, at most a window, which is mostly some
// hundreds; a sender can send again what it was not answered.
const remembered = 4096

// seen remembers the messages that were handled last, by seq and by sender
// and id: the edge may send one again, a sender may have sent one twice.
type seen struct {
	seqs map[uint64]struct{}
	ids  map[sender]struct{}
	ring []handled
	next int
	most int // in ring
}

// sender is what makes an id unique.
type sender struct{ from, id string }

func senderOf(e *wire.Envelope) sender { return sender{string(e.FromDeviceID), e.ID} }

type handled struct {
	seq uint64
	sender
}

// newSeen remembers so many messages.
func newSeen(most int) seen {
	return seen{most: most, seqs: make(map[uint64]struct{}), ids: make(map[sender]struct{})}
}

// has reports whether the message was handled. A replay is the operator's wish,
// and new however well its id is known.
func (s *seen) has(e *wire.Envelope) bool {
	if s.hasSeq(e.Seq) {
		return true
	}
	if e.Replay || e.ID == "" {
		return false
	}
	_, ok := s.ids[senderOf(e)]
	return ok
}

func (s *seen) hasSeq(seq uint64) bool {
	_, ok := s.seqs[seq]
	return ok
}

// forgetSeqs forgets sequences, which may be given out again, and keeps ids.
func (s *seen) forgetSeqs() {
	clear(s.seqs)
	for i := range s.ring {
		s.ring[i].seq = 0
	}
}

// add remembers a message. One that is known takes no second place: what comes again
// by the thousand, as after a restart of all servers, would have others forgotten.
func (s *seen) add(e *wire.Envelope) {
	if s.hasSeq(e.Seq) {
		return
	}
	h := handled{seq: e.Seq, sender: senderOf(e)}
	if h.seq != 0 {
		s.seqs[h.seq] = struct{}{}
	}
	s.ids[h.sender] = struct{}{}
	if len(s.ring) < s.most {
		s.ring = append(s.ring, h)
		return
	}
	old := s.ring[s.next]
	delete(s.seqs, old.seq)
	delete(s.ids, old.sender)
	s.ring[s.next] = h
	s.next = (s.next + 1) % s.most
}
