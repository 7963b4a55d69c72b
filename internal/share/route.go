package share

// NATS, not RCCS, takes what services publish to routes. So it is bounded once it
// is stored, by the coordinator that has it wait, which alone knows whose it is.

// RetryRoute is when a service may come back whose message was refused.
const RetryRoute = retryFull

// ServiceRoute is a message that a service has published to a route, and that has
// to wait for a device.
type ServiceRoute struct {
	Size int
	// All and Own are how many bytes wait, of everybody and of this service.
	All, Own int64
}

// Bytes is the size that counts: the body, and what each message costs beside it.
func (m *ServiceRoute) Bytes() int64 { return int64(m.Size) + overhead }

// AdmitRoute reports whether the message may wait. A service may take all that
// others leave until three quarters of what may wait are taken; from then on as
// much as a user.
func (s *Shares) AdmitRoute(m *ServiceRoute) bool {
	if s == nil {
		return true
	}
	t := &s.tables[Route]
	t.mu.Lock()
	defer t.mu.Unlock()
	s.refreshLocked(t)
	own, all := t.limits.user.bytes, t.whole.most/4*3
	if own == 0 || m.Own+m.Bytes() <= own || m.All+m.Bytes() <= all {
		return true
	}
	s.opts.Metrics.refused.WithLabelValues(infos[Route].name, ofService).Inc()
	return false
}
