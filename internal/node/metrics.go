package node

import (
	"cmp"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/survey"
	"github.com/rccs-io/rccs/subjects"
)

// registerProcess registers what every process tells: Go's own figures, of what
// it was built, and whether it is ready.
func registerProcess(reg *prometheus.Registry, version string, ready func() bool) {
	reg.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rccs_build_info", Help: "1, with what the program was built from.",
			ConstLabels: prometheus.Labels{"version": cmp.Or(version, "unknown"), "goversion": runtime.Version(), "revision": revision()},
		}, func() float64 { return 1 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rccs_ready", Help: "1 while /readyz answers 200."}, func() float64 {
			if ready() {
				return 1
			}
			return 0
		}),
	)
}

func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// newSurvey makes one that looks at the streams of tenants.
func newSurvey(reg prometheus.Registerer, log *slog.Logger) (*survey.Survey, error) {
	return survey.New(survey.Options{Streams: backbone.Streams(), Metrics: reg, Logger: log})
}

// addSurvey has a tenant looked at until ends is stopped.
func addSurvey(s *survey.Survey, tenant string, shards int, dial dialer, ends *stops.Stack) error {
	nc, err := dial("survey")
	if err != nil {
		return err
	}
	tenant = cmp.Or(tenant, auth.DefaultTenant)
	if err := s.AddShards(tenant, nc, backbone.StreamsOf(shards), shards); err != nil {
		nc.Close()
		return err
	}
	ends.AddFunc(func() { s.Remove(tenant) })
	return nil
}

// tenantsListed bounds the tenants that have a label of their own on an edge.
const tenantsListed = 20

// edgeCollector tells what an edge knows of each tenant. The last series are of
// all tenants past the bound.
type edgeCollector struct{ edge *edgePart }

var (
	descOnline = prometheus.NewDesc("rccs_devices_online",
		"Devices that are connected to this edge and registered.", []string{"tenant"}, nil)
	descRegistered = prometheus.NewDesc("rccs_devices_registered",
		"Devices that were ever registered and are not forgotten. Every edge tells of all.", []string{"tenant"}, nil)
	descReaderBehind = prometheus.NewDesc("rccs_reader_behind_messages",
		"Stored messages that this edge has not read yet, as the server last said.", []string{"tenant", "stream"}, nil)
	descReaderSilence = prometheus.NewDesc("rccs_reader_silence_seconds",
		"How long this edge has heard nothing from a stream, heartbeats included.", []string{"tenant", "stream"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *edgeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descOnline, descRegistered, descReaderBehind, descReaderSilence} {
		ch <- d
	}
}

// edgeFigures are those of a tenant, or of several with one label.
type edgeFigures struct {
	online, registered    int
	inbox, topics         uint64
	inboxQuiet, topicLate float64
}

// Collect implements [prometheus.Collector].
func (c *edgeCollector) Collect(ch chan<- prometheus.Metric) {
	all := c.edge.all()
	slices.SortFunc(all, func(a, b *edgeTenant) int { return cmp.Compare(a.name, b.name) })
	if i := slices.IndexFunc(all, func(t *edgeTenant) bool { return t.label() == auth.DefaultTenant }); i > 0 {
		all[0], all[i] = all[i], all[0]
	}
	var others edgeFigures
	for i, t := range all {
		var own edgeFigures
		f := &own
		if i >= tenantsListed {
			f = &others
		}
		t.measure(f)
		if f == &own {
			f.collect(ch, t.label())
		}
	}
	if len(all) > tenantsListed {
		others.collect(ch, survey.Others)
	}
}

func (t *edgeTenant) label() string { return cmp.Or(t.name, auth.DefaultTenant) }

// measure adds what is so of the tenant.
func (t *edgeTenant) measure(f *edgeFigures) {
	for _, s := range t.served() {
		f.online += s.roster.Here()
		f.registered += s.roster.Len()
		behind, quiet := s.hub.Behind()
		f.inbox, f.inboxQuiet = f.inbox+behind, max(f.inboxQuiet, quiet.Seconds())
	}
	behind, quiet := t.topics.Behind()
	f.topics, f.topicLate = f.topics+behind, max(f.topicLate, quiet.Seconds())
}

func (f *edgeFigures) collect(ch chan<- prometheus.Metric, tenant string) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{tenant}, labels...)...)
	}
	gauge(descOnline, float64(f.online))
	gauge(descRegistered, float64(f.registered))
	gauge(descReaderBehind, float64(f.inbox), layout.StreamInbox)
	gauge(descReaderBehind, float64(f.topics), subjects.StreamTopic)
	gauge(descReaderSilence, f.inboxQuiet, layout.StreamInbox)
	gauge(descReaderSilence, f.topicLate, subjects.StreamTopic)
}

// serverCollector tells of the NATS server in this process and of the disk below
// it.
type serverCollector struct {
	server *backbone.Server
	dir    string
}

var (
	descJetStream   = prometheus.NewDesc("rccs_jetstream_up", "1 while JetStream is on. The server switches it off when it cannot write.", nil, nil)
	descMetaLeader  = prometheus.NewDesc("rccs_jetstream_meta_leader", "1 on the server that decides where streams lie; one server alone is it.", nil, nil)
	descStoreUsed   = prometheus.NewDesc("rccs_jetstream_store_bytes", "Bytes that this server stores.", nil, nil)
	descStoreLimit  = prometheus.NewDesc("rccs_jetstream_store_limit_bytes", "Bytes that it may store: max_file_store of nats.conf.", nil, nil)
	descAPIRequests = prometheus.NewDesc("rccs_jetstream_api_requests_total", "Requests to JetStream's API.", nil, nil)
	descAPIErrors   = prometheus.NewDesc("rccs_jetstream_api_errors_total", "Of those, the ones answered with an error.", nil, nil)
	descClients     = prometheus.NewDesc("rccs_nats_connections", "Connections of NATS clients, those of RCCS itself included.", nil, nil)
	descSlow        = prometheus.NewDesc("rccs_nats_slow_consumers_total", "Connections that the server cut because they did not read.", nil, nil)
	descDiskFree    = prometheus.NewDesc("rccs_disk_free_bytes", "Bytes that the disk of the data directory has left.", nil, nil)
	descDiskSize    = prometheus.NewDesc("rccs_disk_size_bytes", "How large that disk is.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c *serverCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descJetStream, descMetaLeader, descStoreUsed, descStoreLimit, descAPIRequests, descAPIErrors, descClients, descSlow, descDiskFree, descDiskSize,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *serverCollector) Collect(ch chan<- prometheus.Metric) {
	metric := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, kind, v)
	}
	f := c.server.Figures()
	metric(descJetStream, prometheus.GaugeValue, flag(f.JetStream))
	metric(descMetaLeader, prometheus.GaugeValue, flag(f.MetaLeader))
	metric(descStoreUsed, prometheus.GaugeValue, float64(f.StoreBytes))
	metric(descStoreLimit, prometheus.GaugeValue, float64(f.StoreLimit))
	metric(descAPIRequests, prometheus.CounterValue, float64(f.APIRequests))
	metric(descAPIErrors, prometheus.CounterValue, float64(f.APIErrors))
	metric(descClients, prometheus.GaugeValue, float64(f.Clients))
	metric(descSlow, prometheus.CounterValue, float64(f.SlowConsumers))
	if free, size, err := backbone.DiskSpace(c.dir); err == nil {
		metric(descDiskFree, prometheus.GaugeValue, float64(free))
		metric(descDiskSize, prometheus.GaugeValue, float64(size))
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
