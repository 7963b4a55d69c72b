package coordinator

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
)

// Metrics are the metrics of all coordinators in a process: they do not tell one
// tenant from another. Labels come from closed sets only.
type Metrics struct {
	routed    *prometheus.CounterVec
	waiting   prometheus.Gauge
	deadlines prometheus.Counter
	swept     prometheus.Counter
	requests  *prometheus.CounterVec
	dropped   prometheus.Counter
	panics    prometheus.Counter
	limited   *prometheus.CounterVec

	undeliverable *prometheus.CounterVec
	rejected      *prometheus.CounterVec
}

// The outcomes of a message that was to be routed.
const (
	routedStored    = "stored"
	routedDuplicate = "duplicate" // another coordinator, or an earlier process, was faster
	routedGone      = "gone"      // the same, noticed earlier
	routedExpired   = "expired"
	routedNoDevice  = "no_device"
	routedRefused   = "refused" // by the store, for good
	routedBad       = "bad"     // the subject names no selector
	routedFull      = "full"    // its service has too much waiting
)

// NewMetrics registers the metrics; with nil they are registered nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		undeliverable: UndeliverableTotal(reg), rejected: RejectedTotal(reg),
		routed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "rccs_routed_total", Help: "Messages that devices were sought for, by what became of them.",
		}, []string{"result"}),
		waiting:   f.NewGauge(prometheus.GaugeOpts{Name: "rccs_route_waiting", Help: "Messages that wait for a device to come online."}),
		deadlines: f.NewCounter(prometheus.CounterOpts{Name: "rccs_deadlines_total", Help: "Messages whose time to live ended, and that were looked at because their senders want to hear of it."}),
		swept:     f.NewCounter(prometheus.CounterOpts{Name: "rccs_sweeps_total", Help: "Times that the sessions of dead edges were ended."}),
		requests:  f.NewCounterVec(prometheus.CounterOpts{Name: "rccs_coordinator_requests_total", Help: "Requests to the coordinator, by endpoint and error code."}, []string{"endpoint", "code"}),
		limited: f.NewCounterVec(prometheus.CounterOpts{
			Name: "rccs_coordinator_rate_limited_total", Help: "Messages of devices on plain NATS refused for coming too fast, by limit.",
		}, []string{"limit"}),
		panics:  f.NewCounter(prometheus.CounterOpts{Name: "rccs_coordinator_panics_total", Help: "Faults of the coordinator, each contained to the request or the message that caused it."}),
		dropped: f.NewCounter(prometheus.CounterOpts{Name: "rccs_coordinator_dropped_total", Help: "Requests whose reply subject was not the requester's own."}),
	}
	for _, result := range []string{routedStored, routedDuplicate, routedGone, routedExpired, routedNoDevice, routedRefused, routedBad, routedFull} {
		m.routed.WithLabelValues(result)
	}
	for _, scope := range send.Scopes() {
		m.limited.WithLabelValues(scope)
	}
	return m
}

// UndeliverableTotal counts messages of services that can reach nobody. Edges and
// coordinators of a process share it.
func UndeliverableTotal(reg prometheus.Registerer) *prometheus.CounterVec {
	return shared(reg, "rccs_undeliverable_total", "Messages of services that can reach nobody, by reason.", "reason",
		inbox.NoDevice, inbox.BadSubject, inbox.BadSchedule, inbox.TooLarge, inbox.Damaged)
}

// RejectedTotal counts messages that are kept as rejected. Edges and coordinators
// of a process share it.
func RejectedTotal(reg prometheus.Registerer) *prometheus.CounterVec {
	return shared(reg, "rccs_messages_rejected_total", "Messages that are kept as rejected: their device refused them, they were sent too often, or no frame could hold them.", "cause",
		inbox.RejectedByDevice, inbox.RejectedMaxDeliveries, inbox.RejectedTooLarge)
}

// shared returns a counter that is registered once in a process. Each value of
// its label has a series from the start.
func shared(reg prometheus.Registerer, name, help, label string, values ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(value)
	}
	if reg == nil {
		return v
	}
	var there prometheus.AlreadyRegisteredError
	if err := reg.Register(v); errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
			return old
		}
	}
	return v
}
