package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// ErrSealBroken is wrapped by what Options.OnDiscard hears of a sealed message
// that this device cannot open or must not believe: it was changed on its way,
// belongs to another message, or was sealed by or to a key that is not known.
var ErrSealBroken = errors.New("client: sealed message refused")

// sealedPayload is the payload of a sealed message: what the servers see.
type sealedPayload struct {
	Sealed *sealedBox `json:"sealed"`
}

type sealedBox struct {
	From string `json:"from"` // public curve key of the sender
	To   string `json:"to"`   // and of the recipient
	Box  string `json:"box"`  // base64url of what the sender's key sealed
}

// sealedContent is what the box holds. All but the payload also stands outside
// it, where anybody on the way can change it: what is inside counts. The names
// of both devices are there because a box opens with either key of its pair,
// so that one which A sealed to B could come back to A as B's.
type sealedContent struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	From    string          `json:"from"`
	To      string          `json:"to"`
	Payload json.RawMessage `json:"payload"`
}

// append appends the content as JSON, with the payload byte for byte.
func (c *sealedContent) append(dst []byte) []byte {
	dst = wire.AppendString(append(dst, `{"id":`...), c.ID)
	dst = wire.AppendString(append(dst, `,"type":`...), c.Type)
	dst = wire.AppendString(append(dst, `,"from":`...), c.From)
	dst = wire.AppendString(append(dst, `,"to":`...), c.To)
	return append(append(append(dst, `,"payload":`...), c.Payload...), '}')
}

// sealContent makes the payload of a sealed message.
func sealContent(key nkeys.KeyPair, to string, content *sealedContent) ([]byte, error) {
	from, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	box, err := key.Seal(content.append(nil), to)
	if err != nil {
		return nil, err
	}
	return json.Marshal(sealedPayload{&sealedBox{From: from, To: to, Box: base64.RawURLEncoding.EncodeToString(box)}})
}

// sealedIn is the box in a payload; nil when it is not a sealed message.
func sealedIn(payload []byte) *sealedBox {
	if !bytes.Contains(payload, []byte(`"sealed"`)) {
		return nil // the usual case, without reading all of it
	}
	var p sealedPayload
	if json.Unmarshal(payload, &p) != nil || p.Sealed == nil || p.Sealed.Box == "" {
		return nil // an application may have a field of this name
	}
	return p.Sealed
}

// open is what the box holds, if it was sealed for the device self to one of
// keys, and belongs to the message around it. Who sealed it is box.From, and
// is not yet known to be the device that the message says.
func (box *sealedBox) open(keys []nkeys.KeyPair, self string, e *wire.Envelope) (json.RawMessage, error) {
	key := keyOf(keys, box.To)
	if key == nil {
		return nil, fmt.Errorf("%w: it was sealed to %q, a key that this device does not have (see Seal.Former)", ErrSealBroken, box.To)
	}
	raw, err := base64.RawURLEncoding.DecodeString(box.Box)
	if err != nil {
		return nil, fmt.Errorf("%w: its box is not base64url", ErrSealBroken)
	}
	plain, err := key.Open(raw, box.From)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealBroken, err)
	}
	var content sealedContent
	if json.Unmarshal(plain, &content) != nil || content.Payload == nil {
		return nil, fmt.Errorf("%w: what it holds cannot be read", ErrSealBroken)
	}
	switch {
	case subjects.DeviceID(content.From) != e.FromDeviceID || content.To != self:
		return nil, fmt.Errorf("%w: it was sealed by %q for %q, and came from %q to %q",
			ErrSealBroken, content.From, content.To, e.FromDeviceID, self)
	case content.ID != e.ID || content.Type != e.Type:
		return nil, fmt.Errorf("%w: it was sealed as %s %q, and came as %s %q",
			ErrSealBroken, content.Type, content.ID, e.Type, e.ID)
	}
	return content.Payload, nil
}

func keyOf(keys []nkeys.KeyPair, public string) nkeys.KeyPair {
	for _, key := range keys {
		if own, err := key.PublicKey(); err == nil && own == public {
			return key
		}
	}
	return nil
}
