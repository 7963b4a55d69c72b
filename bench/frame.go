package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// PayloadBytes is the size of the payload of every message.
const PayloadBytes = 256

// arrival is what the generator wants to know of a message.
type arrival struct {
	n   uint64 // which of the pair's, from 1
	seq uint64 // what acknowledges it; 0 from a server that needs none
}

var (
	markError = []byte(`"type":"error"`)
	markAck   = []byte(`"type":"ack"`)
	markOther = []byte(`"type":"presence"`)
	markDone  = []byte(`"status":"delivered"`)
	markSeq   = []byte(`"seq":`)
	markN     = []byte(`"payload":{"n":`)
)

// appendMessage adds the envelope of a pair's n-th message. The payload comes
// last and is PayloadBytes long.
func (p *pair) appendMessage(dst []byte, n uint64) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, p.prefix...)
	dst = strconv.AppendUint(dst, n, 10)
	dst = append(dst, `","type":"user_message","toDeviceId":"`...)
	dst = append(dst, p.receiver.name.Device...)
	if p.fleet.opts.Receipts {
		dst = append(dst, `","requiresAck":true,"payload":`...)
	} else {
		dst = append(dst, `","payload":`...)
	}
	start := len(dst)
	dst = append(dst, `{"n":`...)
	dst = strconv.AppendUint(dst, n, 10)
	dst = append(dst, `,"pad":"`...)
	for len(dst)-start < PayloadBytes-2 {
		dst = append(dst, 'x')
	}
	return append(dst, `"}}`...)
}

// scan appends to dst the messages in a frame, one envelope or an array of
// them, without decoding it: it knows what it sent. Frames that say that
// messages were accepted have none.
func scan(dst []arrival, frame []byte) ([]arrival, error) {
	if bytes.Contains(frame, markError) {
		return dst, fmt.Errorf("bench: the server says %s", frame)
	}
	if bytes.Contains(frame, markAck) {
		return dst, nil
	}
	payloads, seqs := bytes.Count(frame, markN), bytes.Count(frame, markSeq)
	if payloads == 0 && bytes.Contains(frame, markOther) {
		return dst, nil // the pair's other device has come or gone
	}
	if payloads == 0 || seqs > 0 && seqs != payloads {
		return dst, fmt.Errorf("bench: not a message of this generator's: %s", frame)
	}
	// Fields of an envelope may come in any order, so each kind is looked for
	// by itself.
	rest, restSeqs := frame, frame
	for range payloads {
		var a arrival
		a.n, rest = number(rest, markN)
		if seqs > 0 {
			a.seq, restSeqs = number(restSeqs, markSeq)
		}
		dst = append(dst, a)
	}
	return dst, nil
}

// outcomes appends to dst the sequences of the envelopes of a frame that say
// that a message was delivered. Each has to be acknowledged.
func outcomes(dst []uint64, frame []byte) ([]uint64, error) {
	if !bytes.Contains(frame, markDone) {
		return dst, nil
	}
	if frame[0] != '[' {
		frame = append(append([]byte{'['}, frame...), ']')
	}
	var all []struct{ Seq uint64 }
	if err := json.Unmarshal(frame, &all); err != nil {
		return dst, fmt.Errorf("bench: %w: %s", err, frame)
	}
	for _, e := range all {
		if e.Seq > 0 {
			dst = append(dst, e.Seq)
		}
	}
	return dst, nil
}

// number is the decimal number after the first mark, 0 if there is none, and
// what follows it.
func number(b, mark []byte) (n uint64, rest []byte) {
	i := bytes.Index(b, mark)
	if i < 0 {
		return 0, b
	}
	b = b[i+len(mark):]
	for i = 0; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	return n, b[i:]
}
