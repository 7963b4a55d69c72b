package coordinator

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are figures of coordinators, of any number in a process together:
// nothing in them tells one tenant from another. Labels come from closed sets
// only.
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
}

// What can become of a message that was to be routed.
const (
	routedStored    = "stored"
	routedDuplicate = "duplicate" // another coordinator, or an earlier process, was faster
	routedGone      = "gone"      // the same, noticed earlier
	routedExpired   = "expired"
	routedNoDevice  = "no_device"
	routedRefused   = "refused" // by the store, for good
	routedBad       = "bad"     // the subject names no selector
)

// NewMetrics registers them; with nil they are nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		undeliverable: UndeliverableTotal(reg),
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
}

// UndeliverableTotal is the metric of what services published that can reach
// nobody. Edges and coordinators of a process share it.
func UndeliverableTotal(reg prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rccs_undeliverable_total", Help: "Messages of services that can reach nobody, by reason.",
	}, []string{"reason"})
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
