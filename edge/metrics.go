package edge

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/wire"
)

// metrics are the edge's figures. Labels come from closed sets only.
type metrics struct {
	connections prometheus.Gauge
	accepted    prometheus.Counter
	refused     *prometheus.CounterVec
	limited     *prometheus.CounterVec

	forwardedUnreadable prometheus.Counter

	registered   prometheus.Counter
	received     prometheus.Counter
	sent         prometheus.Counter
	redelivered  prometheus.Counter
	acked        prometheus.Counter
	dropped      prometheus.Counter
	published    prometheus.Counter
	topicSent    prometheus.Counter
	storedWrite  prometheus.Histogram
	storedAck    prometheus.Histogram
	publishDelay prometheus.Histogram
	errors       *prometheus.CounterVec
	closes       *prometheus.CounterVec
	panics       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	// 50 µs to 27 min, each bucket twice the one before.
	buckets := prometheus.ExponentialBuckets(50e-6, 2, 26)
	histogram := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		connections:         f.NewGauge(prometheus.GaugeOpts{Name: "rccs_connections", Help: "WebSocket connections open now."}),
		accepted:            counter("rccs_connections_accepted_total", "WebSocket connections accepted."),
		refused:             f.NewCounterVec(prometheus.CounterOpts{Name: "rccs_connections_refused_total", Help: "Connections refused before the upgrade, by reason."}, []string{"reason"}),
		limited:             f.NewCounterVec(prometheus.CounterOpts{Name: "rccs_rate_limited_total", Help: "Messages and registrations refused for coming too fast, by limit."}, []string{"limit"}),
		forwardedUnreadable: counter("rccs_forwarded_unreadable_total", "Requests through a proxy whose X-Forwarded-For could not be read."),

		registered:   counter("rccs_registrations_total", "Devices that registered."),
		received:     counter("rccs_messages_received_total", "Application messages that devices sent, without those that were refused at once."),
		sent:         counter("rccs_messages_sent_total", "Durable messages written to devices."),
		redelivered:  counter("rccs_messages_redelivered_total", "Of those, the ones that may have been written before."),
		acked:        counter("rccs_messages_acked_total", "Messages that devices acknowledged."),
		dropped:      counter("rccs_ephemeral_dropped_total", "Ephemeral messages not written because the device does not read, or takes no frame as large."),
		published:    counter("rccs_topic_published_total", "Messages of topics that devices published and that are stored."),
		topicSent:    counter("rccs_topic_sent_total", "Messages of topics written to devices."),
		storedWrite:  histogram("rccs_stored_to_written_seconds", "From storage to the device's socket; time away counts."),
		storedAck:    histogram("rccs_stored_to_acked_seconds", "From storage to the device's acknowledgement; time away counts."),
		publishDelay: histogram("rccs_received_to_stored_seconds", "From a device's frame to its storage."),
		errors:       f.NewCounterVec(prometheus.CounterOpts{Name: "rccs_errors_total", Help: "Errors told to devices, by code."}, []string{"code"}),
		panics:       counter("rccs_connection_panics_total", "Faults of the edge, each contained to the connection that it ended."),
		closes:       f.NewCounterVec(prometheus.CounterOpts{Name: "rccs_closes_total", Help: "Connections that the edge closed, by close code."}, []string{"code"}),
	}
	m.begin()
	return m
}

// begin makes every series exist from the start, at 0: the first rise of a series
// that did not exist cannot be seen.
func (m *metrics) begin() {
	for _, reason := range []string{refusedOrigin, refusedDraining, refusedAttempts, refusedAddress, refusedTotal, refusedUnauthenticated} {
		m.refused.WithLabelValues(reason)
	}
	for _, limit := range append(send.Scopes(), limitRegistrations, limitDevices) {
		m.limited.WithLabelValues(limit)
	}
	for _, code := range wire.Codes() {
		m.errors.WithLabelValues(string(code))
	}
	for _, code := range wire.CloseCodes() {
		m.closes.WithLabelValues(code.String())
	}
}

// Limits that are not send's, as labels of rccs_rate_limited_total.
const (
	limitRegistrations = "registrations"
	limitDevices       = "devices"
)

// watchUnauthenticated registers a gauge of connections without a credential.
func (*metrics) watchUnauthenticated(reg prometheus.Registerer, now func() float64) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rccs_unauthenticated_connections", Help: "Connections open now that have shown no credential yet.",
	}, now)
}

// told counts errors that were written to a device. An error that was queued for
// a connection that ended before is not counted.
func (m *metrics) told(codes []wire.Code) {
	for _, code := range codes {
		m.errors.WithLabelValues(string(code)).Inc()
	}
}
