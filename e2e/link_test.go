package e2e_test

import (
	"time"

	"github.com/gorilla/websocket"
)

// link is a connection for goroutines that may not fail the test: every
// trouble is an error.
type link struct {
	ws   *websocket.Conn
	rest []envelope // of a frame that held several
}

// next is the next envelope but those that come on their own, see
// device.aside.
func (l *link) next() (envelope, error) {
	for {
		e, err := l.any()
		switch {
		case err != nil:
			return e, err
		case e.Type == "presence":
		case e.Type == "ack" && e.Seq > 0:
			if err := l.ws.WriteJSON(object{"type": "ack", "payload": object{"seq": e.Seq}}); err != nil {
				return e, err
			}
		default:
			return e, nil
		}
	}
}

func (l *link) any() (envelope, error) {
	for len(l.rest) == 0 {
		if err := l.ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return envelope{}, err
		}
		_, data, err := l.ws.ReadMessage()
		if err != nil {
			return envelope{}, err
		}
		if l.rest, err = parseFrame(data); err != nil {
			return envelope{}, err
		}
	}
	e := l.rest[0]
	l.rest = l.rest[1:]
	return e, nil
}
