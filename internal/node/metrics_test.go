package node_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/tlsfiles"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// metric is one of /metrics.
type metric struct {
	name, kind, help string
	labels           []string
	series           map[string]float64 // by the labels as they stand, "" for none
}

var sample = regexp.MustCompile(`^([a-z_0-9]+)(\{[^}]*\})? (\S+)`)

// scrape reads what a node tells, in the text format of Prometheus.
func scrape(t *testing.T, url string) map[string]*metric {
	t.Helper()
	got := get(t, url, nil, nil)
	if got.status != http.StatusOK {
		t.Fatalf("%s answered %d", url, got.status)
	}
	all := make(map[string]*metric)
	var last *metric
	for line := range strings.Lines(got.body) {
		line = strings.TrimRight(line, "\n")
		if text, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(text, " ")
			last = &metric{name: name, help: help, series: make(map[string]float64)}
			all[name] = last
			continue
		}
		if text, ok := strings.CutPrefix(line, "# TYPE "); ok {
			_, last.kind, _ = strings.Cut(text, " ")
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample: %q", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		testkit.Check(t, err)
		if last.series[m[2]] = value; m[2] != "" {
			last.labels = last.labels[:0]
			for pair := range strings.SplitSeq(strings.Trim(m[2], "{}"), ",") {
				if label, _, ok := strings.Cut(pair, "="); ok && label != "le" {
					last.labels = append(last.labels, label)
				}
			}
		}
	}
	return all
}

// ofDefault is the value of a series of the default tenant; -1 when there is none.
func ofDefault(all map[string]*metric, name, labels string) float64 {
	m := all[name]
	if m == nil {
		return -1
	}
	if v, ok := m.series[labels]; ok {
		return v
	}
	return -1
}

// What piles up for a device that is away is seen, and goes when it has come and
// acknowledged.
func TestMetricsSeeWhatWaits(t *testing.T) {
	t.Parallel()
	n := start(t, t.TempDir())
	url := fmt.Sprintf("http://%s/metrics", n.AdminAddr())
	phone, desktop := connect(t, n, "alice/phone"), connect(t, n, "alice/desktop")
	phone.Send(`{"type":"device_unregister","id":"bye"}`)
	phone.Read()
	for i := range 3 {
		desktop.Send(fmt.Sprintf(`{"id":"%d","type":"note","toDeviceId":"phone","payload":1}`, i))
	}
	const tenant = `{tenant="default"}`
	testkit.Eventually(t, "three messages wait for one device, and one device is online", func() bool {
		all := scrape(t, url)
		return ofDefault(all, "rccs_unacknowledged_messages", tenant) == 3 &&
			ofDefault(all, "rccs_unacknowledged_devices", `{older_than="0s",tenant="default"}`) == 1 &&
			ofDefault(all, "rccs_unacknowledged_devices", `{older_than="1m",tenant="default"}`) == 0 &&
			ofDefault(all, "rccs_unacknowledged_oldest_seconds", tenant) < 60 &&
			ofDefault(all, "rccs_devices_online", tenant) == 1 &&
			ofDefault(all, "rccs_devices_registered", tenant) == 2 &&
			ofDefault(all, "rccs_edges", tenant) == 1 &&
			ofDefault(all, "rccs_stream_messages", `{stream="RCCS_INBOX",tenant="default"}`) == 3 &&
			ofDefault(all, "rccs_ready", "") == 1
	})
	phone = connect(t, n, "alice/phone")
	for range 3 {
		phone.Read()
	}
	phone.Send(`{"type":"ack","payload":{"reject":{"seq":1}}}`)
	phone.Send(`{"type":"ack","payload":{"upTo":3}}`)
	phone.Send(`{"type":"ack","payload":{"seq":2}}`)
	phone.Send(`{"type":"ack","payload":{"seq":3}}`)
	testkit.Eventually(t, "nothing waits, and one message was rejected", func() bool {
		all := scrape(t, url)
		return ofDefault(all, "rccs_unacknowledged_messages", tenant) == 0 &&
			ofDefault(all, "rccs_unacknowledged_devices", `{older_than="0s",tenant="default"}`) == 0 &&
			ofDefault(all, "rccs_messages_rejected_total", `{cause="device"}`) == 1
	})
}

// What is of a shard has its number as a label, of a tenant that has several.
func TestMetricsTellShardsApart(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, node.Options{Data: t.TempDir(), AdminListen: nodetest.AnyPort, Shards: 3})
	connect(t, n, "alice/phone")
	own := strconv.Itoa(shard.OfUser("alice", 3))
	url := fmt.Sprintf("http://%s/metrics", n.AdminAddr())
	testkit.Eventually(t, "the device is online in its shard alone", func() bool {
		all := scrape(t, url)
		sum := 0.0
		for i := range 3 {
			sum += ofDefault(all, "rccs_devices_online", fmt.Sprintf(`{shard="%d",tenant="default"}`, i))
		}
		return sum == 1 && ofDefault(all, "rccs_devices_online", `{shard="`+own+`",tenant="default"}`) == 1 &&
			ofDefault(all, "rccs_reader_behind_messages", `{shard="2",stream="RCCS_INBOX",tenant="default"}`) == 0 &&
			ofDefault(all, "rccs_reader_behind_messages", `{stream="RCCS_TOPIC",tenant="default"}`) == 0 &&
			ofDefault(all, "rccs_devices_online", `{tenant="default"}`) == -1
	})
}

// A series that appears only when it is more than 0 cannot be seen to rise.
func TestEveryMetricIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	n := start(t, t.TempDir())
	url := fmt.Sprintf("http://%s/metrics", n.AdminAddr())
	for name, m := range scrape(t, url) {
		if len(m.series) == 0 {
			t.Errorf("%s has no series", name)
		}
		if m.kind == "counter" && strings.HasPrefix(name, "rccs_") {
			for labels, v := range m.series {
				if v != 0 && !strings.HasPrefix(name, "rccs_jetstream_api_") && name != "rccs_sweeps_total" { // a start does both
					t.Errorf("%s%s begins at %v", name, labels, v)
				}
			}
		}
	}
	for name, values := range map[string]int{
		"rccs_errors_total": 19, "rccs_closes_total": 13, "rccs_undeliverable_total": 4, "rccs_messages_rejected_total": 3,
		"rccs_connections_refused_total": 6, "rccs_rate_limited_total": 6, "rccs_routed_total": 7,
	} {
		if got := len(scrape(t, url)[name].series); got < values {
			t.Errorf("%s has %d series, want %d", name, got, values)
		}
	}
}

// The names follow Prometheus' rules, and OpenMetrics is spoken to a client that asks for it.
func TestMetricsFollowTheRulesOfOpenMetrics(t *testing.T) {
	t.Parallel()
	n := start(t, t.TempDir())
	url := fmt.Sprintf("http://%s/metrics", n.AdminAddr())
	problems, err := promlint.New(strings.NewReader(get(t, url, nil, nil).body)).Lint()
	testkit.Check(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "rccs_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	open := get(t, url, nil, http.Header{"Accept": {"application/openmetrics-text; version=1.0.0"}})
	if !strings.HasPrefix(open.header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(open.body, "# EOF\n") {
		t.Errorf("answered %q, which ends %q", open.header.Get("Content-Type"), open.body[max(len(open.body)-20, 0):])
	}
}

// sections are the parts of docs/metrics.md. A metric stands in the first whose
// prefixes it has.
var sections = []struct {
	title, intro string
	prefixes     []string
}{
	{"Every process", "Beside these there are Go's own (`go_…`, `process_…`).", []string{"rccs_build_", "rccs_ready"}},
	{
		"What is stored, and what waits", "Told by `rccs serve` and `rccs coordinator`, and found out every 10 s; `rccs_survey_timestamp_seconds` says when. " +
			"Each of several tells of all: take the `max` by tenant, not the sum. 20 tenants have a label of their own, the others have `tenant=\"(others)\"` together.",
		[]string{"rccs_stream_", "rccs_unacknowledged_", "rccs_edges", "rccs_survey_", "rccs_tenants"},
	},
	{
		"The NATS server and its disk", "Told by `rccs serve`, each of its own server.",
		[]string{"rccs_jetstream_", "rccs_nats_", "rccs_disk_"},
	},
	{
		"Services and the coordinator", "Told by `rccs serve` and `rccs coordinator`. `rccs_undeliverable_total` and `rccs_messages_rejected_total` are told by edges as well: add them up.",
		[]string{"rccs_coordinator_", "rccs_route", "rccs_deadlines_", "rccs_sweeps_", "rccs_share_", "rccs_undeliverable_", "rccs_messages_rejected_"},
	},
	{"Certificates", "Told where there are any.", []string{"rccs_tls_"}},
	{
		"Devices and their messages", "Told by `rccs serve` and `rccs edge`, each of its own devices: add them up. `rccs_devices_registered` is the exception.",
		[]string{"rccs_"},
	},
}

const (
	metricsPage  = "../../docs/metrics.md"
	metricsBegin = "<!-- generated: go test ./internal/node -run Metrics -update -->\n"
	metricsEnd   = "<!-- end -->\n"
)

func TestThePageOfMetricsListsThemAll(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("localhost")
	n := run(t, node.Options{Transport: node.Transport{TLS: tlsfiles.Files{Cert: cert, Key: key}}})
	all := scrape(t, fmt.Sprintf("http://%s/metrics", n.AdminAddr()))
	var want bytes.Buffer
	taken := make(map[string]bool)
	for _, s := range sections {
		fmt.Fprintf(&want, "\n## %s\n\n%s\n\n| name | kind | labels | |\n| --- | --- | --- | --- |\n", s.title, s.intro)
		var names []string
		for name := range all {
			if !taken[name] && slices.ContainsFunc(s.prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			taken[name] = true
			m := all[name]
			slices.Sort(m.labels)
			fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", name, m.kind, strings.Join(m.labels, ", "), strings.ReplaceAll(m.help, `\"`, `"`))
		}
	}
	page, err := os.ReadFile(metricsPage)
	testkit.Check(t, err)
	before, rest, ok := bytes.Cut(page, []byte(metricsBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(metricsEnd))
	if !ok || !ok2 {
		t.Fatalf("%s has no place for what is generated", metricsPage)
	}
	whole := slices.Concat(before, []byte(metricsBegin), want.Bytes(), []byte("\n"+metricsEnd), after)
	if *update {
		testkit.Check(t, os.WriteFile(metricsPage, whole, 0o644))
		return
	}
	if !bytes.Equal(page, whole) {
		t.Errorf("%s is not what the program tells: run go test ./internal/node -run Metrics -update", metricsPage)
	}
}

// BenchmarkScrape is one scrape of an installation with 100,000 devices, each of
// which has left a message unacknowledged.
func BenchmarkScrape(b *testing.B) {
	const devices = 100_000
	n, err := node.New(node.Options{
		Data: b.TempDir(), Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Config: rccs.DefaultConfig(),
	})
	if err == nil {
		err = n.Start(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = n.Stop(context.WithoutCancel(b.Context())) }()
	part, err := n.Keys().PartOption("edge")
	if err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(n.NATSURL(), part, nats.CustomInboxPrefix(layout.PartReplyPrefix))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.Publish(b.Context(), "rccs.inbox.u0.d0.normal", nil); err != nil {
		b.Fatal(err)
	}
	for i := range devices {
		if i%1000 == 0 {
			<-js.PublishAsyncComplete()
		}
		name := fmt.Sprintf("u%d.d%d", i/10, i%10)
		if _, err := js.PublishAsync("rccs.cursor."+name, []byte(`{"sent":[0,1,0,0],"unacked":[[],[1],[],[]]}`)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	url := fmt.Sprintf("http://%s/metrics", n.AdminAddr())
	for tick := time.Tick(time.Second); ; <-tick {
		body := fetch(b, url)
		if strings.Contains(body, "rccs_unacknowledged_messages{tenant=\"default\"} 100000\n") {
			break
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		fetch(b, url)
	}
}

func fetch(b *testing.B, url string) string {
	resp, err := http.Get(url) //nolint:noctx // it ends with the benchmark
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return string(body)
}
