package clock

import (
	"sync/atomic"
	"time"
)

// Store watches the clock of the server that stores a stream's messages, by the times
// that it gives them. That server's clock may be set when this process's is not, and
// with another leader a stream goes by another clock. Stored has one caller at a time;
// Within may be called by anybody.
type Store struct {
	began time.Time
	last  int64        // when the last message was stored, by the store's clock
	ahead int64        // of the store's clock from the monotonic one, in ns
	until atomic.Int64 // on the monotonic clock, in ns since began
}

// WatchStore begins to watch a store's clock, which is taken for right until a message
// comes.
func WatchStore() *Store {
	s := &Store{began: time.Now()}
	s.ahead = s.began.UnixNano()
	return s
}

// Stored has to be told when each message was stored, in their order, in Unix
// nanoseconds. It reports whether the store's clock was set ahead within the last
// window, by 5 s or more between two messages. A message that is read late does not make
// a clock look ahead.
func (s *Store) Stored(at int64, window time.Duration) bool {
	return s.stored(at, int64(time.Since(s.began)), window)
}

// Within reports what Stored reported last, as of now.
func (s *Store) Within() bool {
	until := s.until.Load()
	return until != 0 && int64(time.Since(s.began)) < until // it is asked of each message, and hardly ever set
}

func (s *Store) stored(at, mono int64, window time.Duration) bool {
	ahead := at - mono
	switch {
	case at < s.last-int64(jump): // it was set back
		s.ahead = ahead
	case ahead >= s.ahead+int64(jump):
		s.until.Store(mono + int64(window))
		s.ahead = ahead
	default:
		s.ahead = max(s.ahead, ahead)
	}
	s.last = at
	return mono < s.until.Load()
}
