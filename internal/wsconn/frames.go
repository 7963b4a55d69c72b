package wsconn

import "encoding/binary"

// boundary follows where WebSocket frames begin and end in the bytes of a
// connection. It checks nothing: gorilla does.
type boundary struct {
	head [14]byte // the header of the frame, as far as it came
	got  uint8    // of head
	left uint64   // of the payload, once the header is complete
}

// between reports whether the next byte begins a frame.
func (b *boundary) between() bool { return b.got == 0 && b.left == 0 }

// pass follows some bytes, up to the end of a frame, and returns how many of
// them it took.
func (b *boundary) pass(p []byte) int {
	n := 0
	for b.left == 0 && n < len(p) {
		b.head[b.got] = p[n]
		b.got++
		n++
		size, payload := header(b.head[:b.got])
		if int(b.got) < size {
			continue
		}
		b.got, b.left = 0, payload
		if payload == 0 {
			return n
		}
	}
	some := min(b.left, uint64(len(p)-n)) //nolint:gosec // n is at most the length
	b.left -= some
	return n + int(some) //nolint:gosec // at most the length of p
}

// header returns how long a frame's header is, as far as p shows, and, when p
// has all of it, how long the payload is.
func header(p []byte) (size int, payload uint64) {
	if len(p) < 2 {
		return 2, 0
	}
	size, payload = 2, uint64(p[1]&0x7f)
	switch payload {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	extended := size
	if p[1]&0x80 != 0 {
		size += 4 // the mask
	}
	if len(p) < size {
		return size, 0
	}
	switch extended {
	case 4:
		payload = uint64(binary.BigEndian.Uint16(p[2:]))
	case 10:
		payload = binary.BigEndian.Uint64(p[2:])
	}
	return size, payload
}

// First bytes of frames that are whole messages.
const (
	finalText  = 0x81
	finalClose = 0x88
	finalPing  = 0x89
	finalPong  = 0x8a
)

// appendHeader appends the header of a frame without a mask.
func appendHeader(dst []byte, first byte, payload int) []byte {
	switch {
	case payload < 126:
		return append(dst, first, byte(payload)) //nolint:gosec // below 126
	case payload <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, first, 126), uint16(payload))
	}
	return binary.BigEndian.AppendUint64(append(dst, first, 127), uint64(payload))
}

// takeControl reads a whole ping or pong from the beginning of p. Its size is 0
// when there is none, or a malformed one. The payload is a copy.
func takeControl(p []byte) (size int, ping bool, payload string) {
	if len(p) < 6 || p[0] != finalPing && p[0] != finalPong || p[1] < 0x80 || p[1] > 0x80+125 {
		return 0, false, ""
	}
	n := int(p[1] & 0x7f)
	if size = 6 + n; len(p) < size {
		return 0, false, ""
	}
	if p[0] == finalPong {
		return size, false, "" // its payload is of no use
	}
	plain := make([]byte, n)
	for i := range plain {
		plain[i] = p[6+i] ^ p[2+i%4]
	}
	return size, true, string(plain)
}
