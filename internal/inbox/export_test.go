package inbox

import "time"

// On a busy machine the store may take longer than in earnest, and what a test waits
// for comes one after the other.
func init() { publishTimeout = 10 * time.Minute }

// StoreWasBehind has the hub take the clock of the stream's leader for one that was
// behind until now.
func (h *Hub) StoreWasBehind(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.clock.Stored(now.UnixNano(), time.Minute)
	h.clock.Stored(now.Add(-by).UnixNano(), time.Minute)
}

// WaitAtBarrier has attachments wait for the hub for so long. Call it before the first.
func (h *Hub) WaitAtBarrier(d time.Duration) { h.barrier = d }

// Busy keeps the hub from handling anything until free is called.
func (h *Hub) Busy() (free func()) {
	h.mu.Lock()
	return h.mu.Unlock
}
