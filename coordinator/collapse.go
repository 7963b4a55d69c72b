package coordinator

import (
	"sync"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
)

// newestKeys bounds how many collapse keys are remembered between the fetches of all
// devices; some 100 bytes each. Past it they are read again.
const newestKeys = 1 << 17

// collapses remembers which collapse keys wait for devices that fetch what waits in
// several parts. So each part costs what is new, and not all that waits.
type collapses struct {
	mu      sync.Mutex
	devices map[subjects.Key]*inbox.Newest
	keys    int
}

// take returns what is known of a device. Nobody else has it until it is put back.
func (c *collapses) take(k subjects.Key) *inbox.Newest {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.devices[k]
	if n == nil {
		return new(inbox.Newest)
	}
	delete(c.devices, k)
	c.keys -= n.Len()
	n.Again()
	return n
}

// put keeps what is known of a device for its next fetch.
func (c *collapses) put(k subjects.Key, n *inbox.Newest) {
	if n.Len() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.devices[k]; old != nil { // of another fetch at the same time
		c.keys -= old.Len()
	}
	if c.devices == nil || c.keys+n.Len() > newestKeys {
		c.devices, c.keys = make(map[subjects.Key]*inbox.Newest), 0
	}
	c.devices[k] = n
	c.keys += n.Len()
}
