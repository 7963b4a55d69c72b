package load

import (
	"bytes"
	"iter"
	"strconv"
)

// arrival is what is to be known of a message.
type arrival struct {
	run  uint64 // which run sent it
	flow uint64
	n    uint64 // which of the flow's, from 1
	at   int64  // when it was due to be sent, in nanoseconds of the run
	seq  uint64 // what acknowledges it; 0: nothing does
	// again is set when the server says that it may have been sent before.
	again bool
}

var (
	markPayload = []byte(`"payload":{"run":`)
	markFlow    = []byte(`,"flow":`)
	markN       = []byte(`,"n":`)
	markAt      = []byte(`,"at":`)
	markSeq     = []byte(`"seq":`)
	markAgain   = []byte(`"redelivered":true`)
	// markAccepted is in what the server says of a message that it has stored.
	markAccepted = []byte(`"status":"accepted"`)
)

// appendPayload adds a payload of a number of bytes.
func appendPayload(dst []byte, a arrival, size int) []byte {
	start := len(dst)
	dst = append(dst, `{"run":`...)
	dst = strconv.AppendUint(dst, a.run, 10)
	dst = append(dst, markFlow...)
	dst = strconv.AppendUint(dst, a.flow, 10)
	dst = append(dst, markN...)
	dst = strconv.AppendUint(dst, a.n, 10)
	dst = append(dst, markAt...)
	dst = strconv.AppendInt(dst, a.at, 10)
	dst = append(dst, `,"pad":"`...)
	for len(dst)-start < size-2 {
		dst = append(dst, 'x')
	}
	return append(dst, `"}`...)
}

// appendMessage adds an envelope to a device of the same user.
func appendMessage(dst []byte, to string, a arrival, opts Options) []byte {
	dst = appendID(append(dst, `{"id":"`...), a)
	dst = append(dst, `","type":"user_message","toDeviceId":`...)
	dst = strconv.AppendQuote(dst, to)
	if opts.Receipts {
		dst = append(dst, `,"requiresAck":true`...)
	}
	dst = append(dst, `,"payload":`...)
	return append(appendPayload(dst, a, opts.Bytes), '}')
}

// appendPublish adds an envelope to a topic.
func appendPublish(dst []byte, topic string, a arrival, size int) []byte {
	dst = appendID(append(dst, `{"id":"`...), a)
	dst = append(dst, `","type":"publish","payload":{"topic":"`...)
	dst = append(dst, topic...)
	dst = append(dst, `","data":`...)
	return append(appendPayload(dst, a, size), `}}`...)
}

func appendID(dst []byte, a arrival) []byte {
	dst = strconv.AppendUint(dst, a.run, 36)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, a.flow, 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, a.n, 10)
}

// scan reads a message of a bench from a frame of one envelope without decoding
// it, for that takes its CPU from the server's machine: what it looks for, it
// has written itself. ok is false for every other frame.
func scan(frame []byte) (a arrival, ok bool) {
	at := bytes.Index(frame, markPayload)
	if at < 0 {
		return a, false
	}
	rest, due := frame[at:], uint64(0)
	for _, field := range []struct {
		mark []byte
		to   *uint64
	}{{markPayload, &a.run}, {markFlow, &a.flow}, {markN, &a.n}, {markAt, &due}} {
		if !bytes.HasPrefix(rest, field.mark) {
			return arrival{}, false
		}
		*field.to, rest = number(rest[len(field.mark):])
	}
	a.at = int64(due)
	if _, seq, ok := bytes.Cut(frame, markSeq); ok {
		a.seq, _ = number(seq)
	}
	a.again = bytes.Contains(frame, markAgain)
	return a, true
}

// envelopes are those of a frame, one or an array of them. As little is decoded as
// tells where one ends.
func envelopes(frame []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(frame) == 0 || frame[0] != '[' {
			yield(frame)
			return
		}
		depth, begin, quoted := 0, 0, false
		for i := 0; i < len(frame); i++ {
			switch c := frame[i]; {
			case c == '"':
				quoted = !quoted
			case quoted && c == '\\':
				i++
			case quoted:
			case c == '{':
				if depth++; depth == 1 {
					begin = i
				}
			case c == '}':
				if depth--; depth == 0 && !yield(frame[begin:i+1]) {
					return
				}
			}
		}
	}
}

// number is the decimal number that b begins with, and what follows it.
func number(b []byte) (n uint64, rest []byte) {
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	return n, b[i:]
}
