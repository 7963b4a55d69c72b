package headers

import (
	"strings"
	"sync"
)

const (
	// maxKnown bounds how many headers are known, and maxLength how long each is: 16
	// MiB in all. A service's is some 5 KB, most of which is its credential.
	maxKnown  = 1024
	maxLength = 16 << 10
)

// users are the users in what [layout.HeaderRequester] held lately, by its value. A
// connection's value is the same with each message until NATS measures its round-trip
// time again, and reading it as JSON costs more than all else that a message to a
// route does.
type users struct {
	mu    sync.RWMutex
	known map[string]string
}

// of returns the user in a header's value.
func (u *users) of(value string) string {
	if len(value) > maxLength {
		return parse(value).User
	}
	u.mu.RLock()
	user, ok := u.known[value]
	u.mu.RUnlock()
	if ok {
		return user
	}
	user = parse(value).User
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known == nil {
		u.known = make(map[string]string)
	}
	for other := range u.known { // any: whoever still sends is known again with the next message
		if len(u.known) < maxKnown {
			break
		}
		delete(u.known, other)
	}
	u.known[strings.Clone(value)] = user
	return user
}
