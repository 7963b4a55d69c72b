package survey

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Others is the label of all tenants past the bound, taken together. No tenant
// can have this name.
const Others = "(others)"

// ages are the bounds of the distribution of how long devices have left their
// oldest message unacknowledged.
var ages = [...]struct {
	least time.Duration
	label string
}{
	{0, "0s"},
	{time.Minute, "1m"},
	{10 * time.Minute, "10m"},
	{time.Hour, "1h"},
	{6 * time.Hour, "6h"},
	{24 * time.Hour, "1d"},
	{3 * 24 * time.Hour, "3d"},
	{6 * 24 * time.Hour, "6d"},
}

// metrics are gauges by tenant. Every series of a tenant is there from its
// beginning.
type metrics struct {
	messages, bytes, limit   *prometheus.GaugeVec // by stream
	led, missing, lag        *prometheus.GaugeVec // likewise
	unacknowledged, oldest   *prometheus.GaugeVec
	behind                   *prometheus.GaugeVec // by age
	edges, looked, lookTook  *prometheus.GaugeVec
	failures                 *prometheus.CounterVec
	tenants, tenantsUnlisted prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	vec := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"tenant"}, labels...))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &metrics{
		messages: vec("rccs_stream_messages", "Messages stored in a stream, acknowledged ones included.", "stream"),
		bytes:    vec("rccs_stream_bytes", "Bytes stored in a stream, of one copy.", "stream"),
		limit:    vec("rccs_stream_limit_bytes", "Bytes that a stream may store; 0: it has no bound of its own.", "stream"),
		led:      vec("rccs_stream_has_leader", "1 while the stream's leader answers, without which nothing is stored in it.", "stream"),
		missing:  vec("rccs_stream_replicas_missing", "Copies of a stream that are offline or not current.", "stream"),
		lag:      vec("rccs_stream_replica_lag_messages", "How far the copy is behind that is furthest behind its leader.", "stream"),

		unacknowledged: vec("rccs_unacknowledged_messages", "Messages in inboxes that their devices have not acknowledged."),
		behind:         vec("rccs_unacknowledged_devices", "Devices whose oldest unacknowledged message is at least so old; 0s: that have any.", "older_than"),
		oldest:         vec("rccs_unacknowledged_oldest_seconds", "Age of the oldest unacknowledged message."),
		edges:          vec("rccs_edges", "Edges that hold a lease."),
		looked:         vec("rccs_survey_timestamp_seconds", "When the figures of a tenant were last found out, Unix time."),
		lookTook:       vec("rccs_survey_duration_seconds", "How long that took."),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "rccs_survey_failures_total", Help: "Times that the figures of a tenant could not be found out.",
		}, []string{"tenant"}),
		tenants:         gauge("rccs_tenants", "Tenants that this process serves."),
		tenantsUnlisted: gauge("rccs_tenants_without_label", "Tenants past the bound on labels, which have the label \""+Others+"\" together."),
	}
}

// begin has every series of a tenant start at 0.
func (m *metrics) begin(tenant string, streams []string) {
	for _, vec := range []*prometheus.GaugeVec{m.unacknowledged, m.oldest, m.edges, m.looked, m.lookTook} {
		vec.WithLabelValues(tenant)
	}
	m.failures.WithLabelValues(tenant)
	for _, a := range ages {
		m.behind.WithLabelValues(tenant, a.label)
	}
	for _, vec := range m.ofStreams() {
		for _, s := range streams {
			vec.WithLabelValues(tenant, s)
		}
	}
	for _, s := range streams {
		m.led.WithLabelValues(tenant, s).Set(1) // until it is known that it has none
	}
}

// end removes them.
func (m *metrics) end(tenant string) {
	of := prometheus.Labels{"tenant": tenant}
	for _, vec := range append(m.ofStreams(), m.unacknowledged, m.oldest, m.edges, m.looked, m.lookTook, m.behind) {
		vec.DeletePartialMatch(of)
	}
	m.failures.DeletePartialMatch(of)
}

func (m *metrics) ofStreams() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{m.messages, m.bytes, m.limit, m.led, m.missing, m.lag}
}

// set stores what was found out of a tenant, or of several that share a label.
func (m *metrics) set(tenant string, f *figures) {
	for name, s := range f.streams {
		m.led.WithLabelValues(tenant, name).Set(boolean(s.led))
		if !s.led {
			continue // the rest is as it was
		}
		m.messages.WithLabelValues(tenant, name).Set(float64(s.messages))
		m.bytes.WithLabelValues(tenant, name).Set(float64(s.bytes))
		m.limit.WithLabelValues(tenant, name).Set(float64(s.limit))
		m.missing.WithLabelValues(tenant, name).Set(float64(s.missing))
		m.lag.WithLabelValues(tenant, name).Set(float64(s.lag))
	}
	m.unacknowledged.WithLabelValues(tenant).Set(float64(f.unacknowledged))
	m.oldest.WithLabelValues(tenant).Set(f.oldest.Seconds())
	for i, a := range ages {
		m.behind.WithLabelValues(tenant, a.label).Set(float64(f.behind[i]))
	}
	m.edges.WithLabelValues(tenant).Set(float64(f.edges))
	m.looked.WithLabelValues(tenant).Set(float64(f.at.UnixMilli()) / 1000)
	m.lookTook.WithLabelValues(tenant).Set(f.took.Seconds())
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// figures are what was found out of a tenant.
type figures struct {
	at             time.Time
	took           time.Duration
	streams        map[string]streamFigures
	unacknowledged uint64
	behind         [len(ages)]int
	oldest         time.Duration
	edges          int
}

type streamFigures struct {
	messages, bytes, limit uint64
	led                    bool
	missing                int
	lag                    uint64
}

// add takes in what was found out of another tenant with the same label.
func (f *figures) add(other *figures) {
	if f.streams == nil {
		f.streams = make(map[string]streamFigures)
	}
	for name, o := range other.streams {
		s, known := f.streams[name]
		f.streams[name] = streamFigures{
			messages: s.messages + o.messages, bytes: s.bytes + o.bytes, limit: s.limit + o.limit,
			led: o.led && (s.led || !known), missing: s.missing + o.missing, lag: max(s.lag, o.lag),
		}
	}
	f.unacknowledged += other.unacknowledged
	for i, n := range other.behind {
		f.behind[i] += n
	}
	f.oldest = max(f.oldest, other.oldest)
	f.edges = max(f.edges, other.edges)
	f.took += other.took
	if f.at.IsZero() || other.at.Before(f.at) {
		f.at = other.at
	}
}
