package wire

import (
	"math"
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

// The fields of a post.
const (
	pTo = iota
	pType
	pPayload
	pID
	pPriority
	pTTL
	pDeliverAt
	pCollapse
	pCorrelation
	pEphemeral
	postFields
)

var postNames = [postFields]string{
	"to", "type", "payload", "id", "priority", "ttlMs", "deliverAt", "collapseKey", "correlationId", "ephemeral",
}

func postField(key []byte) int {
	for n, name := range postNames {
		if name == string(key) {
			return n
		}
	}
	return -1
}

// The fields of a post's "to".
const (
	uUser = iota
	uDevice
	uDeviceType
	uCapability
	uMode
	postToFields
)

var postToNames = [postToFields]string{"to.user", "to.device", "to.deviceType", "to.capability", "to.mode"}

func postToField(key []byte) int {
	for n, name := range postToNames {
		if name[len("to."):] == string(key) {
			return n
		}
	}
	return -1
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
	d := decoder{b: s.b, names: postNames[:]}
	from := s.i
	unknown := ""
	seen := once{names: postNames[:]}
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

func (d *decoder) post(p *Post) {
	d.reserve(pPayload, pDeliverAt)
	e := &p.Envelope
	e.RequiresAck = true // its outcome comes as an event
	e.ID = d.str(pID)
	if d.f[pID].given() && !validKey(e.ID) {
		d.fail(pID, wantID)
		e.ID = ""
	}
	const wantType = `an application's type such as "user_message": [a-z][a-z0-9_.-]{0,63}`
	if e.Type = d.need(pType, wantType); d.bad == nil && (!ValidType(e.Type) || IsControl(e.Type)) {
		d.fail(pType, wantType)
	}
	e.To, p.User = d.postTo()
	e.Priority = d.lane()
	e.TTLMs = d.integer(pTTL, 1, math.MaxInt64, "a positive integer of milliseconds")
	e.DeliverAt = d.when(pDeliverAt, wantTime)
	e.CollapseKey, e.CorrelationID = d.key(pCollapse), d.key(pCorrelation)
	e.Ephemeral = d.flag(pEphemeral)
	if d.f[pPayload].kind == absent {
		d.missing(pPayload, "any JSON value, null among them")
		return
	}
	e.Payload = d.raw(pPayload)
}

// lane is the priority, a number or a name.
func (d *decoder) lane() uint8 {
	v := d.f[pPriority]
	const want = "0 to 3, or low, normal, high or critical"
	switch {
	case !v.given():
		return Normal
	case v.kind != isString:
		return uint8(d.integer(pPriority, int64(Low), int64(Critical), want)) //nolint:gosec // it fits
	}
	switch d.str(pPriority) {
	case "low":
		return Low
	case "normal":
		return Normal
	case "high":
		return High
	case "critical":
		return Critical
	}
	d.fail(pPriority, want)
	return Normal
}

// postTo reads whom a post is for.
func (d *decoder) postTo() (*To, subjects.UserID) {
	const want = `an object such as {"user":"alice","device":"phone"}`
	v := d.f[pTo]
	if v.kind != isObject {
		if !v.given() {
			d.missing(pTo, want)
		} else {
			d.fail(pTo, want)
		}
		return nil, ""
	}
	in := decoder{b: d.b, names: postToNames[:]}
	s := scanner{b: d.b, i: v.at}
	unknown, members := false, 0 // members beside user and mode
	seen := once{names: postToNames[:]}
	s.members(insideEnvelope+1, in.f[:], func(key []byte) int { // scanned before: it cannot fail
		n := postToField(key)
		unknown = unknown || n < 0
		if n != uUser && n != uMode {
			members++
		}
		return seen.add(n)
	})
	in.reserve()
	user := in.needName(uUser)
	to := &To{Device: subjects.DeviceID(in.name(uDevice)), DeviceType: in.name(uDeviceType), Capability: in.name(uCapability), Mode: in.postMode()}
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

func (d *decoder) postMode() string {
	switch s := d.str(uMode); {
	case !d.f[uMode].given(), s == ModeAll, s == ModeAny:
		return s
	}
	d.fail(uMode, `"all" or "any"`)
	return ""
}
