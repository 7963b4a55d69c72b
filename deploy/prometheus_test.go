package deploy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.yaml.in/yaml/v3"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

const rulesFile = "prometheus/rules.yaml"

// alert is one of the rules.
type alert struct {
	Alert       string            `yaml:"alert"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func TestTheRulesAndTheConfigurationAreOnesThatPrometheusTakes(t *testing.T) {
	t.Parallel()
	promtool := need.Program(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus/prometheus.yaml"}, {"check", "rules", rulesFile}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// The rules pass their tests, and what makes an alert fire in one makes no other
// alert fire.
func TestEachAlertFiresAlone(t *testing.T) {
	t.Parallel()
	promtool := need.Program(t, "promtool")
	text, err := os.ReadFile("prometheus/rules_test.yaml")
	check(t, err)
	rules, err := filepath.Abs(rulesFile)
	check(t, err)
	var file struct {
		Rules    []string         `yaml:"rule_files"`
		Interval string           `yaml:"evaluation_interval"`
		Tests    []map[string]any `yaml:"tests"`
	}
	check(t, yaml.Unmarshal(text, &file))
	file.Rules = []string{rules}
	fired := 0
	for _, test := range file.Tests {
		name, _ := test["name"].(string)
		own, fires := strings.CutSuffix(name, " fires")
		cases, ok := test["alert_rule_test"].([]any)
		if !fires || !ok {
			continue
		}
		fired++
		first, ok := cases[0].(map[string]any)
		if !ok || first["alertname"] != own {
			t.Fatalf("%s tests %v", name, cases)
		}
		for _, a := range alerts(t) {
			if a.Alert != own {
				cases = append(cases, map[string]any{"eval_time": first["eval_time"], "alertname": a.Alert, "exp_alerts": []any{}})
			}
		}
		test["alert_rule_test"] = cases
	}
	if fired != len(alerts(t)) {
		t.Errorf("%d alerts fire in tests, of %d", fired, len(alerts(t)))
	}
	text, err = yaml.Marshal(file)
	check(t, err)
	path := filepath.Join(t.TempDir(), "alone.yaml")
	check(t, os.WriteFile(path, text, 0o600))
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// An alert says how bad it is and where to read on, there is an entry there, and
// its rule has tests.
func TestEveryAlertHasItsEntryInTheRunbook(t *testing.T) {
	t.Parallel()
	runbook, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("prometheus/rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := alerts(t)
	if len(all) < 20 {
		t.Fatalf("%d alerts", len(all))
	}
	for _, a := range all {
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has severity %q", a.Alert, s)
		}
		if want := "https://github.com/rccs-io/rccs/blob/main/docs/runbook.md#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want || a.Annotations["summary"] == "" {
			t.Errorf("%s: annotations %v", a.Alert, a.Annotations)
		}
		if !strings.Contains(string(runbook), "\n### "+a.Alert+"\n") {
			t.Errorf("docs/runbook.md has no entry %q", "### "+a.Alert)
		}
		for _, what := range []string{"fires", "does not fire"} {
			if !strings.Contains(string(tests), "name: "+a.Alert+" "+what+"\n") {
				t.Errorf("%s has no test that it %s", a.Alert, what)
			}
		}
	}
}

// monitor is a Prometheus that watches processes of RCCS.
type monitor struct {
	t       *testing.T
	url     string
	ownDisk bool // the data lies on a disk of the test's
}

// waits replaces how long a condition has to last: long enough for an election
// of leaders and a round of the survey to be over.
const waits = "for: 25s"

var lasting = regexp.MustCompile(`for: \d+[smhd]`)

// watch starts Prometheus with the rules of this folder, and a scrape a second.
func watch(t *testing.T, admins ...string) *monitor {
	t.Helper()
	program := need.Program(t, "prometheus")
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"rules.yaml": lasting.ReplaceAllString(string(rules), waits),
		"prometheus.yaml": fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yaml]\n"+
			"scrape_configs: [{job_name: rccs, static_configs: [{targets: [%q]}]}]\n", strings.Join(admins, `", "`)),
	} {
		text = strings.ReplaceAll(text, `\"`, `"`)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := "127.0.0.1:" + freePort(t)
	start(t, program, "--config.file", filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", at, "--log.level", "warn")
	m := &monitor{t: t, url: "http://" + at}
	testkit.Eventually(t, "Prometheus has scraped everything", func() bool {
		return len(m.query(`up{job="rccs"} == 1`)) == len(admins)
	})
	return m
}

// query returns the values of an expression, by their labels; nil when there is
// no answer.
func (m *monitor) query(expr string) map[string]float64 {
	m.t.Helper()
	resp, err := http.Get(m.url + "/api/v1/query?query=" + url.QueryEscape(expr)) //nolint:noctx // it ends with the test
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil // it starts
	}
	if answer.Status == "error" {
		m.t.Fatalf("%s: %s", expr, answer.Error)
	}
	all := make(map[string]float64)
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			m.t.Fatal(err)
		}
		all[fmt.Sprint(r.Metric)] = value
	}
	return all
}

// firing are the names of the alerts that fire. A disk that is not the test's own
// is as full as the machine's is, and does not count.
func (m *monitor) firing() []string {
	m.t.Helper()
	names := make(map[string]bool)
	for labels := range m.query(`count by (alertname) (ALERTS{alertstate="firing"})`) {
		names[strings.TrimSuffix(strings.TrimPrefix(labels, "map[alertname:"), "]")] = true
	}
	if !m.ownDisk {
		delete(names, "RCCSDiskFilling")
	}
	return slices.Sorted(maps.Keys(names))
}

// fires waits for exactly these alerts. Another one that fires on the way fails
// the test.
func (m *monitor) fires(what string, want ...string) {
	m.t.Helper()
	m.await(what, func() bool {
		got := m.firing()
		for _, name := range got {
			if !slices.Contains(want, name) {
				m.t.Fatalf("%s: %s fires, which is not what happened", what, name)
			}
		}
		return len(got) == len(want)
	})
}

// alertWithin bounds the wait for an alert: it comes after the fault was noticed, a
// round of the survey, a scrape, and the time that it has to last.
const alertWithin = 3 * time.Minute

func (m *monitor) await(what string, ok func() bool) {
	m.t.Helper()
	await(m.t, func() string { return fmt.Sprintf("%s; %v fire", what, m.firing()) }, ok)
}

func await(t *testing.T, what func() string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(alertWithin), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what())
		}
	}
}

// calms waits until no alert fires any more.
func (m *monitor) calms(what string) {
	m.t.Helper()
	m.await(what, func() bool { return len(m.firing()) == 0 })
}

// smallDisk is a directory on a file system of its own; "" where that cannot be
// had.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("rccs-deploy", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		need.Missing(t, "a small file system cannot be mounted: "+err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// Each thing that is broken makes the alert fire that is for it, and no other;
// mended, it is calm again.
func TestTheRightAlertFires(t *testing.T) {
	t.Parallel()
	need.Program(t, "prometheus")
	disk := smallDisk(t, 256<<20)
	s := serve(t, "--data", filepath.Join(disk, "data"))
	s.data = filepath.Join(disk, "data")
	admin := "127.0.0.1:" + freePort(t)
	edge := func() *exec.Cmd {
		cmd := exec.Command(program, "edge", "--data", s.data, "--server", "nats://"+s.nats, "--name", "edge-1",
			"--listen", "127.0.0.1:0", "--admin-listen", admin)
		run(t, cmd)
		testkit.Eventually(t, "the edge is ready", func() bool { return get(t, "http://"+admin+"/readyz") == http.StatusOK })
		return cmd
	}
	first := edge()
	m := watch(t, s.admin, admin)
	m.ownDisk = true
	m.fires("nothing is broken")

	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.fires("an edge was killed", "RCCSDown")
	edge()
	m.calms("the edge is back")

	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 240<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m.fires("the disk fills", "RCCSDiskFilling")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	m.calms("the disk has room")

	backlog(t, s, 10_100)
	m.fires("messages pile up", "RCCSBacklogGrows")
}

// backlog stores messages for a device that does not come.
func backlog(t *testing.T, s *server, n int) {
	t.Helper()
	creds := filepath.Join(t.TempDir(), "operator.creds")
	if err := os.WriteFile(creds, []byte(command(t, "creds", "part", "operator", "--data", s.data)), 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+s.nats, nats.UserCredentials(creds), nats.CustomInboxPrefix("_RCCS"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if i%500 == 0 {
			<-js.PublishAsyncComplete()
		}
		if _, err := js.PublishAsync("rccs.inbox.alice.phone.normal", []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

// With a server of three gone all goes on, and it is told that one more may not
// go. The server is not scraped: else it would be told as well that it is down.
func TestAReplicaThatIsDownIsTold(t *testing.T) {
	t.Parallel()
	need.Program(t, "prometheus")
	plan := localcluster.Plan{Dir: t.TempDir(), Config: rccs.DefaultConfig(), Servers: 3, Edges: 1}
	processes, err := plan.Processes()
	if err != nil {
		t.Fatal(err)
	}
	var admins []string
	var third *exec.Cmd
	for i, p := range processes {
		cmd := exec.Command(program, p.Args...)
		run(t, cmd)
		if i == 2 {
			third = cmd
		} else {
			admins = append(admins, p.Admin)
		}
	}
	for _, admin := range admins {
		await(t, func() string { return "a cluster" }, func() bool { return get(t, "http://"+admin+"/readyz") == http.StatusOK })
	}
	m := watch(t, admins...)
	m.calms("nothing is broken")
	if err := third.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.fires("a server was killed", "RCCSReplicaMissing")
}

// What the dashboard asks for is there.
func TestEveryQueryOfTheDashboardReturnsData(t *testing.T) {
	t.Parallel()
	need.Program(t, "prometheus")
	s := serve(t)
	m := watch(t, s.admin)
	talk(t, s)
	queries := 0
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			queries++
			testkit.Eventually(t, p.Title+": data for "+target.Expr, func() bool {
				for _, v := range m.query(expr(target.Expr)) {
					if !math.IsNaN(v) {
						return true
					}
				}
				return false
			})
		}
	}
	if queries < 25 {
		t.Errorf("%d queries were tried", queries)
	}
}

// credentials are those of a device of alice's.
func credentials(t *testing.T, s *server, name string) client.Credentials {
	t.Helper()
	file := filepath.Join(t.TempDir(), "creds")
	check(t, os.WriteFile(file, []byte(command(t, "creds", "device", "alice/"+name, "--data", s.data)), 0o600))
	return client.CredentialsFile(file)
}

// talk has one device send to another.
func talk(t *testing.T, s *server) {
	t.Helper()
	device := func(name string) *client.Client {
		c, err := client.Dial(t.Context(), "ws://"+s.devices, &client.Options{Credentials: credentials(t, s, name), Type: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	phone, desktop := device("phone"), device("desktop")
	for range 3 {
		if _, err := desktop.SendJSON(t.Context(), "note", "hello", client.To("phone")); err != nil {
			t.Fatal(err)
		}
		m, err := phone.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m.Ack()
	}
}
