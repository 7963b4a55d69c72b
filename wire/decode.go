package wire

import "unicode/utf8"

// Item is what one envelope of a frame decoded to: an envelope, or, when Err
// is not nil, nothing but what was wrong with it.
type Item struct {
	Envelope
	Err *Error
}

// DecodeFrame appends what a text frame holds to dst, one [Item] an envelope,
// in order. A frame is an object or an array of objects; an empty array holds
// nothing and is no error.
//
// The error is an [*Error] with BAD_FRAME, and dst comes back as it was, when
// the frame as a whole is not of that form: not valid UTF-8, not JSON exactly
// as encoding/json takes it, deeper than [MaxDepth], more than [MaxEnvelopes],
// or an array with something else than objects in it. What is wrong with one
// envelope is in its Item, as BAD_MESSAGE, with the id when it could be read.
//
// Keys are case-sensitive, the last of several equal ones counts, null stands
// for absent but in payload, and unknown keys are ignored. Payloads alias
// frame; see the package comment.
func DecodeFrame(dst []Item, frame []byte) ([]Item, error) {
	return DecodeFew(dst, frame, MaxEnvelopes)
}

// DecodeFew is DecodeFrame for a peer that is not trusted with as much: a frame
// may hold so many envelopes at most.
func DecodeFew(dst []Item, frame []byte, most int) ([]Item, error) {
	if !utf8.Valid(frame) {
		return dst, NewError(BadFrame, "the frame is not valid UTF-8")
	}
	s := scanner{b: frame}
	s.space()
	var items []Item
	var bad *Error
	switch s.peek() {
	case '{':
		items, bad = s.object(dst)
	case '[':
		items, bad = s.array(dst, most)
	default:
		return dst, NewError(BadFrame, "")
	}
	if bad != nil {
		return dst, bad
	}
	if s.space(); s.i != len(frame) {
		return dst, s.notJSON()
	}
	return items, nil
}

// Embeddable reports whether b is one JSON value that may stand in an envelope as
// it is: valid UTF-8, JSON, and no deeper than a frame can hold around it.
// What is not must travel as base64.
func Embeddable(b []byte) bool { return EmbeddableIn(b, insideEnvelope) }

// EmbeddableInObject is Embeddable for a value that is a member of the payload:
// the data of a publish, the params of a request, the result of a response.
func EmbeddableInObject(b []byte) bool { return EmbeddableIn(b, insideEnvelope+1) }

// EmbeddableIn is Embeddable for a value that stands in so many arrays and
// objects.
func EmbeddableIn(b []byte, containers int) bool {
	if !utf8.Valid(b) {
		return false
	}
	s := scanner{b: b}
	s.space()
	if _, ok := s.value(containers); !ok {
		return false
	}
	s.space()
	return s.i == len(b)
}

// insideEnvelope is how many containers are open inside an envelope: itself,
// and the array that it may be delivered in.
const insideEnvelope = 2

func (s *scanner) array(dst []Item, most int) ([]Item, *Error) {
	n := len(dst)
	s.i++
	if s.space(); s.take(']') {
		return dst, nil
	}
	for {
		if s.space(); s.peek() != '{' {
			return dst, Errorf(BadFrame, "element %d of the array is not an object", len(dst)-n)
		}
		if len(dst)-n == most {
			return dst, Errorf(BadFrame, "more than %d envelopes in a frame: send several frames", most)
		}
		var bad *Error
		if dst, bad = s.object(dst); bad != nil {
			return dst, bad
		}
		s.space()
		if s.take(']') {
			return dst, nil
		}
		if !s.take(',') {
			return dst, s.notJSON()
		}
	}
}

func (s *scanner) object(dst []Item) ([]Item, *Error) {
	d := decoder{b: s.b, names: envelopeFields[:]}
	if !s.members(insideEnvelope, d.f[:], field) {
		return dst, s.notJSON()
	}
	dst = append(dst, Item{})
	item := &dst[len(dst)-1]
	d.envelope(&item.Envelope)
	if d.bad != nil {
		*item = Item{Err: d.bad.For(item.ID)}
	}
	return dst, nil
}

func (s *scanner) notJSON() *Error {
	return Errorf(BadFrame, "not valid JSON, or nested too deep, near byte %d", s.i)
}
