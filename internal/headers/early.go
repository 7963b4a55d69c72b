package headers

import "github.com/nats-io/nats.go"

// EndEarly reports whether a message, as it was received, may have more headers than
// the NATS client has read.
//
// NATS passes on what a publisher wrote as it is, and adds its own headers behind
// that: who asks, or what a stored message is. An empty line among the publisher's
// ends the reading before those, and headers of the same names are then the
// publisher's.
//
// No client writes headers that are longer than in the usual form. They can be
// written shorter, by two bytes a line and a few for a status, so that the length
// shows nothing: but only of many lines that makes up for what NATS adds, a hundred
// bytes or more.
func EndEarly(m *nats.Msg) bool {
	values, usual := 0, len("NATS/1.0\r\n\r\n")
	for key, all := range m.Header {
		values += len(all)
		for _, v := range all {
			usual += len(key) + len(": ") + len(v) + len("\r\n")
		}
	}
	had := m.Size() - len(m.Subject) - len(m.Reply) - len(m.Data)
	return had > usual || values > maxHeaders
}

// maxHeaders is how many headers may be read without doubt. RCCS itself writes 14 at
// the most, and NATS adds 6.
const maxHeaders = 32
