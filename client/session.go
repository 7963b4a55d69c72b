package client

import (
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Session is what the edge said when the device registered last.
type Session struct {
	ID              subjects.SessionID
	User            subjects.UserID
	Device          subjects.DeviceID
	Resumed         bool
	Pending         int64         // messages that waited in the inbox
	Window          int           // messages that may be unacknowledged
	Heartbeat       time.Duration // between pings of the edge
	MaxMessageBytes int           // of one frame to the edge
	MaxFrameBytes   int           // of one frame to the device
	Epoch           string        // changes when sequences may be given out again
	URL             string        // of the edge, which may be another than Dial was given
	Expires         time.Time     // of the credential; zero is never
	ServerTime      time.Time     // at the edge, when it answered
	// Connected is false while the client tries to connect again.
	Connected bool
}

func newSession(r *wire.Registered) Session {
	s := Session{
		ID: r.SessionID, User: r.UserID, Device: r.DeviceID,
		Resumed: r.Resumed, Pending: r.Pending, Window: r.Window, MaxMessageBytes: int(r.MaxMessageBytes), MaxFrameBytes: int(r.MaxFrameBytes), Epoch: r.Epoch,
		Heartbeat: time.Duration(r.HeartbeatIntervalMs) * time.Millisecond, Connected: true,
	}
	// Times are for people: one that cannot be read is left out.
	s.Expires, _ = time.Parse(time.RFC3339, r.ExpiresAt)
	s.ServerTime, _ = time.Parse(time.RFC3339, r.ServerTime)
	return s
}
