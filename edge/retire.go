package edge

import (
	"sync"
	"time"
)

// users are the connections of a Tenant, from before its devices are attached until
// nothing of them is left.
type users struct {
	mu      sync.Mutex
	n       int
	idle    time.Time // since when there are none
	retired bool      // there will be none
}

// enter counts a connection as one of the Tenant, until exit. It reports false if the
// Tenant takes no more.
func (t *Tenant) enter() bool {
	u := &t.users
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.retired {
		u.n++
	}
	return !u.retired
}

// exit is called once for each enter that reported true, when the connection is closed.
func (t *Tenant) exit() {
	u := &t.users
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 {
		u.idle = time.Now()
	}
}

// Retire reports whether the Tenant has had no connection for that long. If so it takes
// none from now on, and can be closed while the edge goes on.
func (t *Tenant) Retire(idle time.Duration) bool {
	u := &t.users
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == 0 && time.Since(u.idle) >= idle {
		u.retired = true
	}
	return u.retired
}
