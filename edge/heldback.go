package edge

import (
	"sync"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/roster"
)

// heldBack has the devices that lost their connection here and that others still
// see as online, until their offline delay ends. If the credential of one is
// revoked meanwhile, it cannot come back, and is shown as offline at once.
type heldBack struct {
	mu      sync.Mutex
	devices map[*roster.Session]heldDevice
}

// heldDevice is whose session it was, and when its credential was issued.
type heldDevice struct {
	who    holder
	issued time.Time
}

// add holds a session until its delay is over.
func (h *heldBack) add(s *roster.Session, d heldDevice, delay time.Duration) {
	if delay <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.devices == nil {
		h.devices = make(map[*roster.Session]heldDevice)
	}
	h.devices[s] = d
	time.AfterFunc(delay, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.devices, s)
	})
}

// reveal shows the devices whose credentials v has revoked as offline.
func (h *heldBack) reveal(v *auth.Verifier) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, d := range h.devices {
		if d.who.revoked(v, d.issued) {
			delete(h.devices, s)
			s.Reveal()
		}
	}
}
