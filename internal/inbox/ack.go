package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/storeerr"
)

// Errors of a publish. All of them mean "not known to be stored": sending
// again with the same Nats-Msg-Id is safe.
var (
	// ErrUnavailable means that no JetStream stream answers for the subject now.
	ErrUnavailable = errors.New("the message store does not answer")
	// ErrPublishTimeout means that the store did not acknowledge in time.
	ErrPublishTimeout = errors.New("the message store did not acknowledge in time")
)

// StoreError is a refusal by JetStream.
type StoreError = storeerr.Error

// Receipt says where a message was stored.
type Receipt struct {
	Seq       uint64
	Duplicate bool // it was stored before, within the dedup window; Seq is the earlier copy's
	// Free reports whether the caller may reuse the message: it was sent only
	// once. Otherwise a second copy may still be on its way.
	Free bool
}

// ackPrefix begins every PubAck of a stream in one account on one server
// without a domain.
var ackPrefix = []byte(`{"stream":"`)

// parseAck reads a PubAck. It parses the common form by hand, because it runs for
// every message.
func parseAck(m *nats.Msg) (Receipt, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return Receipt{}, ErrUnavailable
	}
	if rest, ok := bytes.CutPrefix(m.Data, ackPrefix); ok {
		if _, rest, ok = bytes.Cut(rest, []byte(`","seq":`)); ok {
			seq, n := uint64(0), 0
			for n < len(rest) && n < 19 && rest[n] >= '0' && rest[n] <= '9' {
				seq = seq*10 + uint64(rest[n]-'0')
				n++
			}
			if n > 0 && n+1 == len(rest) && rest[n] == '}' {
				return Receipt{Seq: seq}, nil
			}
		}
	}
	var ack struct {
		Seq       uint64      `json:"seq"`
		Duplicate bool        `json:"duplicate"`
		Error     *StoreError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return Receipt{}, fmt.Errorf("inbox: unreadable acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return Receipt{}, ack.Error
	}
	if ack.Seq == 0 {
		return Receipt{}, errors.New("inbox: acknowledgement without a sequence")
	}
	return Receipt{Seq: ack.Seq, Duplicate: ack.Duplicate}, nil
}

// streamOf returns the name of the stream in a refusal.
func streamOf(m *nats.Msg) string {
	var ack struct {
		Stream string `json:"stream"`
	}
	_ = json.Unmarshal(m.Data, &ack) // parseAck has decoded it already
	return ack.Stream
}
