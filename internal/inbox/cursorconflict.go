package inbox

import (
	"bytes"
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// resolveTimeout bounds the look-up of a stored cursor that is not the one
// expected.
const resolveTimeout = 5 * time.Second

// resolve is called when a publish of data found another cursor stored than the
// one expected. That may be the same cursor, if the answer to an earlier attempt
// was lost; or the cursor of a newer session, which stands; or an older one,
// which is replaced. One of a fetch may say that the device was sent more.
func (w *cursorWriter) resolve(key subjects.Key, data []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	found, err := w.last.Get(ctx, []string{layout.Cursor(key)})
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[key]
	s.publishing = false
	if err != nil {
		w.log.Warn("stored cursor not looked up, retrying", "device", string(key), "err", err)
		s.changed = true
		w.laterLocked(key)
		return
	}
	was := s.at.seq
	var there Cursor
	same, at := false, uint64(0)
	if found[0] != nil {
		at = found[0].Seq
		same = bytes.Equal(found[0].Data, data)
		if there, err = ParseCursor(found[0].Data); err != nil {
			there = Cursor{}
		}
	}
	if there.Epoch > s.cursor.Epoch {
		w.log.Info("cursor not stored: the device has a newer session elsewhere", "device", string(key),
			"epoch", s.cursor.Epoch, "newer", there.Epoch)
		w.doneLocked(key) // s.at stays as it is, so that no later cursor of this session replaces it either
		return
	}
	s.at.seq, s.doubt = at, false
	s.cursor.Open = s.cursor.Open || there.above(&s.cursor)
	switch {
	case same && !s.changed:
		w.doneLocked(key)
	case was == s.at.seq: // a lagging replica has answered
		s.changed = true
		w.laterLocked(key)
	default:
		s.changed = true
		w.queueLocked(key)
	}
}
