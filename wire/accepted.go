package wire

import (
	"strconv"

	"github.com/rccs-io/rccs/subjects"
)

// scanAccepted reads the payload of an ack with status accepted, written as
// [Accepted.AppendPayload] writes it, letter for letter. A sender gets one for
// each message, and encoding/json takes as long for it as all the rest of a
// send. It returns false for anything else, which may be the same in other
// words.
func (a *Answer) scanAccepted(payload []byte) bool {
	s := scanner{b: payload}
	var ok bool
	if a.OriginalMessageID, ok = s.text(`{"originalMessageId":`); !ok || !s.literal(`,"status":"accepted","recipients":[`) {
		return false
	}
	a.Status, a.Recipients = StatusAccepted, []Recipient{}
	for s.peek() == '{' {
		var r Recipient
		device, ok := s.text(`{"deviceId":`)
		if !ok {
			return false
		}
		r.DeviceID = subjects.DeviceID(device)
		if s.literal(`,"seq":`) {
			from := s.i
			if s.peek() == '0' || !s.digits() {
				return false
			}
			var err error
			if r.Seq, err = strconv.ParseUint(string(s.b[from:s.i]), 10, 64); err != nil {
				return false
			}
		}
		a.Recipients = append(a.Recipients, r)
		if !s.take('}') || s.take(',') != (s.peek() == '{') {
			return false
		}
	}
	if !s.literal(`],"duplicate":`) {
		return false
	}
	a.Duplicate = s.literal("true")
	return (a.Duplicate || s.literal("false")) && s.literal("}") && s.i == len(s.b)
}

// text reads a literal and then a string, which must have no escapes in it.
func (s *scanner) text(before string) (string, bool) {
	if !s.literal(before) || s.peek() != '"' {
		return "", false
	}
	from := s.i + 1
	escaped, ok := s.str()
	if !ok || escaped {
		return "", false
	}
	return string(s.b[from : s.i-1]), true
}
