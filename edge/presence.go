package edge

import (
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/wire"
)

// Presence tells the user's other devices on this edge of a change. It is the
// roster's callback.
func (t *Tenant) Presence(change roster.Change) {
	if change.Unseen {
		return
	}
	p := wire.Presence{
		DeviceID: change.ID, Status: change.Status, Type: change.Type, LastSeen: wire.FormatTime(change.LastSeen),
		Extra: change.Extra,
	}
	payload := p.AppendPayload(nil)
	p.Extra = nil
	bare := p.AppendPayload(nil)
	for _, key := range t.Roster.Devices(change.Key) {
		if key == change.Key {
			continue
		}
		if c := t.find(key); c != nil {
			c.contained(func() { c.presence(payload, bare) })
		}
	}
}

// presence passes a change on. If payload does not fit a frame, it sends bare,
// without the other device's extra fields.
func (c *conn) presence(payload, bare []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answerLen(len(payload)) > c.maxFrame {
		payload = bare
	}
	c.answerLocked(wire.TypePresence, payload)
}
