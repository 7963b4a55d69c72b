package wire

import (
	"bytes"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// payload scans a control message's payload into d. example shows its form to
// whoever sent something else than an object.
func (d *decoder) payload(typ, example string, index func(key []byte) int) bool {
	if !d.object(index) {
		d.bad = Errorf(BadMessage, "payload of %s must be an object such as %s", typ, example)
		return false
	}
	return true
}

// payloadField is member of the payload.
func payloadField(names []string, key []byte) int { return member(names, "payload.", key) }

// member is the place of a key in names, each of which is prefix and the key;
// -1 for a key that is not there.
func member(names []string, prefix string, key []byte) int {
	for n, name := range names {
		if name[len(prefix):] == string(key) {
			return n
		}
	}
	return -1
}

// need is a string field that must be there.
func (d *decoder) need(n int, want string) string {
	if !d.f[n].given() {
		d.missing(n, want)
		return ""
	}
	return d.str(n)
}

// needName is a name that must be there.
func (d *decoder) needName(n int) string {
	s := d.need(n, wantName)
	if d.f[n].given() && !validName(s) {
		d.fail(n, wantName)
	}
	return s
}

// value is a field of any JSON value, null among them, as it was sent; nil
// when absent.
func (d *decoder) value(n int) []byte {
	if d.f[n].kind == absent {
		return nil
	}
	return d.raw(n)
}

// array is a field of any JSON array, as it was sent; nil when absent.
func (d *decoder) array(n int) []byte {
	if !d.f[n].given() {
		return nil
	}
	if d.f[n].kind != isArray {
		d.fail(n, "an array")
		return nil
	}
	return d.raw(n)
}

// elements are the values of an array that was scanned before.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if array == nil {
			return
		}
		s := scanner{b: array, i: 1}
		for s.space(); !s.take(']'); s.space() {
			s.take(',')
			s.space()
			v, _ := s.value(0)
			if !yield(array[v.at:v.end]) {
				return
			}
		}
	}
}

// others makes an object of the members of d.b, an object that was scanned
// before, whose keys are not known; nil when there are none. The values are as
// they were sent.
func (d *decoder) others(known func(key []byte) bool) []byte {
	s := scanner{b: d.b}
	s.space()
	s.i++ // the brace
	var dst []byte
	for s.space(); !s.take('}'); s.space() {
		s.take(',')
		s.space()
		at := s.i
		key, escaped, _ := s.key()
		if escaped {
			key, _ = unquote(make([]byte, 0, len(key)), key)
		}
		s.space()
		v, _ := s.value(insideEnvelope + 1)
		if known(key) {
			continue
		}
		dst = append(append(dst, ','), d.b[at:v.end]...)
	}
	if dst == nil {
		return nil
	}
	dst[0] = '{'
	return append(dst, '}')
}

// appendMembers appends the members of object, each with a comma before it; an
// object that is nil or empty has none.
func appendMembers(dst, object []byte) []byte {
	object = bytes.TrimSpace(object)
	if len(object) < 2 {
		return dst
	}
	members := bytes.TrimSpace(object[1 : len(object)-1])
	if len(members) == 0 {
		return dst
	}
	return append(append(dst, ','), members...)
}

// appendRaw appends a member of any JSON value; nothing for nil.
func appendRaw(dst []byte, key string, value []byte) []byte {
	if value == nil {
		return dst
	}
	return append(append(dst, key...), value...)
}

// appendStrings appends a member of a list of strings; nothing for an empty one.
func appendStrings(dst []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}

func appendUint(dst []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(dst, key...), n, 10)
}

// appendAck wraps what payload appends into an ack from the server.
func appendAck(dst []byte, payload func([]byte) []byte) []byte {
	dst = append(appendHead(dst, TypeAck, "", ""), `,"payload":`...)
	return append(payload(dst), '}')
}

// appendSuccess opens the payload of an ack that answers a control message.
// The object is left open.
func appendSuccess(dst []byte, originalID string, status Status) []byte {
	dst = AppendString(append(dst, `{"status":`...), string(status))
	return appendField(dst, `,"originalMessageId":`, originalID)
}

// AppendSuccess appends the answer to a control message that has nothing to
// say but that it was done: an ack with status success, as a whole envelope
// from the server. originalID is the id of the message, "" when it had none.
func AppendSuccess(dst []byte, originalID string) []byte {
	return appendAck(dst, func(dst []byte) []byte { return AppendSuccessPayload(dst, originalID) })
}

// AppendSuccessPayload appends the payload of [AppendSuccess] alone.
func AppendSuccessPayload(dst []byte, originalID string) []byte {
	return append(appendSuccess(dst, originalID, StatusSuccess), '}')
}

// AppendCancel appends the ack that tells the target of a request that its
// requester gave it up, as a whole envelope from the server. requestID is the
// id of the request.
func AppendCancel(dst []byte, requestID string) []byte {
	return appendAck(dst, func(dst []byte) []byte { return AppendCancelPayload(dst, requestID) })
}

// AppendCancelPayload appends the payload of [AppendCancel] alone.
func AppendCancelPayload(dst []byte, requestID string) []byte {
	return append(AppendString(append(dst, `{"cancel":`...), requestID), '}')
}

// AppendCancelledPayload appends the payload of the ack that answers a device
// which takes a delayed message back. originalID is the id of that message,
// copies how many were still waiting.
func AppendCancelledPayload(dst []byte, originalID string, copies uint64) []byte {
	dst = appendSuccess(dst, originalID, StatusSuccess)
	return append(appendUint(dst, `,"cancelled":`, copies), '}')
}

// MaxTopic is the longest topic, in bytes.
const MaxTopic = 512

const wantTopic = "a string of 1 to 512 bytes: names of 1 to 128 bytes without control characters, separated by dots"

// ValidTopic reports whether s may be a topic: names separated by dots, at most
// [MaxTopic] bytes. No character in it is a wildcard.
func ValidTopic(s string) bool {
	if len(s) > MaxTopic {
		return false
	}
	for {
		token, rest, more := strings.Cut(s, ".")
		if !validName(token) {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// needTopic is a topic that must be there.
func (d *decoder) needTopic(n int) string {
	s := d.need(n, wantTopic)
	if d.f[n].given() && !ValidTopic(s) {
		d.fail(n, wantTopic)
	}
	return s
}

// seq is a sequence number that may be 0, which is also absent.
func (d *decoder) seq(n int) uint64 {
	return uint64(d.integer(n, 0, math.MaxInt64, "an integer, 0 or more")) //nolint:gosec // integer bounds it
}

// oneLine reports whether s may be the value of a header.
func oneLine(s string) bool {
	return !strings.ContainsFunc(s, unicode.IsControl)
}
