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

// addSurvey has a tenant looked at, and its streams watched, until ends is stopped.
func addSurvey(s *survey.Survey, tenant string, shards int, dial dialer, ends *stops.Stack) (*streamWatch, error) {
	nc, err := dial("survey")
	if err != nil {
		return nil, err
	}
	tenant = cmp.Or(tenant, auth.DefaultTenant)
	if err := s.AddShards(tenant, nc, backbone.StreamsOf(shards), shards); err != nil {
		nc.Close()
		return nil, err
	}
	ends.AddFunc(func() { s.Remove(tenant) })
	w, err := watchStreams(nc, shards, everyStream)
	if err != nil {
		return nil, err
	}
	ends.AddFunc(w.stop)
	return w, nil
}

// tenantsListed bounds the tenants that have a label of their own on an edge.
const tenantsListed = 20

// edgeCollector tells what an edge knows of each tenant. The last series are of
// all tenants past the bound.
type edgeCollector struct{ edge *edgePart }

// edgeDesc is a metric of a tenant, and the same of one of its shards. Series of a
// tenant with a single shard do not have the label.
type edgeDesc struct{ tenant, shard *prometheus.Desc }

func newEdgeDesc(name, help string, labels ...string) edgeDesc {
	of := func(more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, slices.Concat([]string{"tenant"}, labels, more), nil)
	}
	return edgeDesc{of(), of("shard")}
}

var (
	descOnline     = newEdgeDesc("rccs_devices_online", "Devices that are connected to this edge and registered.")
	descRegistered = newEdgeDesc("rccs_devices_registered",
		"Devices that were ever registered and are not forgotten. Every edge tells of all.")
	descReaderBehind = newEdgeDesc("rccs_reader_behind_messages",
		"Stored messages that this edge has not read yet, as the server last said.", "stream")
	descReaderSilence = newEdgeDesc("rccs_reader_silence_seconds",
		"How long this edge has heard nothing from a stream, heartbeats included.", "stream")
)

// Describe implements [prometheus.Collector]. That a metric may have a further
// label cannot be described.
func (c *edgeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []edgeDesc{descOnline, descRegistered, descReaderBehind, descReaderSilence} {
		ch <- d.tenant
	}
}

// edgeFigures are those of a shard, of a tenant, or of several tenants with one
// label.
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
		if i >= tenantsListed {
			t.measure(&others)
			continue
		}
		t.collect(ch)
	}
	if len(all) > tenantsListed {
		others.collect(ch, survey.Others, "")
		others.collectTopics(ch, survey.Others)
	}
}

func (t *edgeTenant) label() string { return cmp.Or(t.name, auth.DefaultTenant) }

// collect tells what is so of the tenant, by shard if it has several.
func (t *edgeTenant) collect(ch chan<- prometheus.Metric) {
	var all edgeFigures
	t.measure(&all)
	all.collectTopics(ch, t.label())
	if t.count <= 1 {
		all.collect(ch, t.label(), "")
		return
	}
	for _, s := range t.served() {
		var own edgeFigures
		s.measure(&own)
		own.collect(ch, t.label(), s.shard.String())
	}
}

// measure adds what is so of the tenant.
func (t *edgeTenant) measure(f *edgeFigures) {
	for _, s := range t.served() {
		s.measure(f)
	}
	behind, quiet := t.topics.Behind()
	f.topics, f.topicLate = f.topics+behind, max(f.topicLate, quiet.Seconds())
}

// measure adds what is so of the shard.
func (s *edgeShard) measure(f *edgeFigures) {
	f.online += s.roster.Here()
	f.registered += s.roster.Len()
	behind, quiet := s.hub.Behind()
	f.inbox, f.inboxQuiet = f.inbox+behind, max(f.inboxQuiet, quiet.Seconds())
}

// collect tells of devices and their inboxes; shard is empty for a tenant with one.
func (f *edgeFigures) collect(ch chan<- prometheus.Metric, tenant, shard string) {
	gauge := func(of edgeDesc, v float64, labels ...string) {
		d, labels := of.tenant, slices.Concat([]string{tenant}, labels)
		if shard != "" {
			d, labels = of.shard, append(labels, shard)
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descOnline, float64(f.online))
	gauge(descRegistered, float64(f.registered))
	gauge(descReaderBehind, float64(f.inbox), layout.StreamInbox)
	gauge(descReaderSilence, f.inboxQuiet, layout.StreamInbox)
}

// collectTopics tells of topics, which are the tenant's.
func (f *edgeFigures) collectTopics(ch chan<- prometheus.Metric, tenant string) {
	for d, v := range map[*prometheus.Desc]float64{descReaderBehind.tenant: float64(f.topics), descReaderSilence.tenant: f.topicLate} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, tenant, subjects.StreamTopic)
	}
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
