package wire

import (
	"unicode/utf8"

	"github.com/rccs-io/rccs/subjects"
)

// Post is a message that a backend sends over HTTP: an envelope, and the user
// whose devices it is for. An id may be missing.
type Post struct {
	Envelope
	User subjects.UserID
	// Size is how many bytes it took.
	Size int
	// Err says what is wrong with it; the rest is then empty but for the id.
	Err *Error
}

// DecodePosts reads the body of a request: one message, or an array of at most
// so many; array reports which. What is wrong with one message is in its Err,
// with BAD_MESSAGE. Members that are not known are refused. The error is
// BAD_MESSAGE when the body as a whole is not of that form, MESSAGE_TOO_LARGE
// when the array has more. Payloads alias body.
func DecodePosts(body []byte, most int) (posts []Post, array bool, err *Error) {
	if !utf8.Valid(body) {
		return nil, false, NewError(BadMessage, "the body is not valid UTF-8")
	}
	s := scanner{b: body}
	s.space()
	switch s.peek() {
	case '{':
		p, ok := s.post()
		if !ok {
			return nil, false, s.notPost()
		}
		posts = append(posts, p)
	case '[':
		array = true
		if posts, err = s.posts(most); err != nil {
			return nil, true, err
		}
	default:
		return nil, false, NewError(BadMessage, "the body is not a message or an array of messages, as JSON")
	}
	if s.space(); s.i != len(body) {
		return nil, array, s.notPost()
	}
	return posts, array, nil
}

func (s *scanner) notPost() *Error {
	return Errorf(BadMessage, "not valid JSON, or nested too deep, near byte %d", s.i)
}

func (s *scanner) posts(most int) (posts []Post, err *Error) {
	s.i++
	if s.space(); s.take(']') {
		return posts, nil
	}
	for {
		s.space()
		if len(posts) == most {
			return nil, Errorf(MessageTooLarge, "more than %d messages in an array: send several", most)
		}
		p, ok := s.element()
		if !ok {
			return nil, s.notPost()
		}
		posts = append(posts, p)
		s.space()
		if s.take(']') {
			return posts, nil
		}
		if !s.take(',') {
			return nil, s.notPost()
		}
	}
}

// element reads what starts here as a message, whatever it is; false: it is not
// JSON.
func (s *scanner) element() (p Post, ok bool) {
	if s.peek() == '{' {
		return s.post()
	}
	_, ok = s.value(insideEnvelope - 1)
	return Post{Err: NewError(BadMessage, "a message is an object")}, ok
}

// post reads the object that starts here; false: it is not JSON.
func (s *scanner) post() (p Post, ok bool) {
	d := decoder{b: s.b, names: envelopeFields[:]}
	from := s.i
	unknown := ""
	seen := once{names: envelopeFields[:]}
	index := func(key []byte) int {
		n := postField(key)
		if n < 0 && unknown == "" {
			unknown = string(key)
			if unknown == "" {
				unknown = " "
			}
		}
		return seen.add(n)
	}
	if !s.members(insideEnvelope, d.f[:], index) {
		return p, false
	}
	d.post(&p)
	if d.bad == nil && unknown != "" {
		d.bad = Errorf(BadMessage, "%q is not a member of a message", unknown)
	}
	if d.bad == nil {
		d.bad = seen.bad
	}
	if d.bad != nil {
		p = Post{Envelope: Envelope{ID: p.ID}, Err: d.bad}
	}
	p.Size = s.i - from
	return p, true
}

// once finds a member that an object has twice.
type once struct {
	names []string
	seen  uint32 // a bit for each field
	bad   *Error
}

// add is field n, or an unknown one, and returns n.
func (o *once) add(n int) int {
	if n >= 0 {
		if o.seen&(1<<n) != 0 && o.bad == nil {
			o.bad = NewError(BadMessage, o.names[n]+" is given more than once")
		}
		o.seen |= 1 << n
	}
	return n
}

// lane is the priority, a number or a name.
func (d *decoder) lane() uint8 {
	v := d.f[fPriority]
	const want = "0 to 3, or low, normal, high or critical"
	switch {
	case !v.given():
		return Normal
	case v.kind != isString:
		return uint8(d.integer(fPriority, int64(Low), int64(Critical), want)) //nolint:gosec // it fits
	}
	switch d.str(fPriority) {
	case "low":
		return Low
	case "normal":
		return Normal
	case "high":
		return High
	case "critical":
		return Critical
	}
	d.fail(fPriority, want)
	return Normal
}

// postTo reads whom a post is for.
func (d *decoder) postTo() (*To, subjects.UserID) {
	const want = `an object such as {"user":"alice","device":"phone"}`
	v := d.f[fTo]
	if v.kind != isObject {
		if !v.given() {
			d.missing(fTo, want)
		} else {
			d.fail(fTo, want)
		}
		return nil, ""
	}
	in := decoder{b: d.b, names: toNames[:]}
	s := scanner{b: d.b, i: v.at}
	unknown, members := false, 0 // members beside user and mode
	seen := once{names: toNames[:]}
	s.members(insideEnvelope+1, in.f[:], func(key []byte) int { // scanned before: it cannot fail
		n := toField(key)
		if n == tService { // an HTTP request cannot send to services
			n = -1
		}
		unknown = unknown || n < 0
		if n != tUser && n != tMode {
			members++
		}
		return seen.add(n)
	})
	in.reserve()
	user := in.needName(tUser)
	to := &To{Device: subjects.DeviceID(in.name(tDevice)), DeviceType: in.name(tDeviceType), Capability: in.name(tCapability), Mode: in.mode()}
	if in.bad == nil {
		in.bad = to.check("")
	}
	if in.bad == nil && members > 0 && *to == (To{Mode: to.Mode}) && !unknown {
		in.bad = NewError(BadMessage, "to names nobody, for device, deviceType or capability is null: leave it out to reach all devices")
	}
	if in.bad == nil && unknown {
		in.bad = NewError(BadMessage, "to has a member that is none of user, device, deviceType, capability and mode")
	}
	if in.bad == nil {
		in.bad = seen.bad
	}
	if d.bad == nil {
		d.bad = in.bad
	}
	return to, subjects.UserID(user)
}
