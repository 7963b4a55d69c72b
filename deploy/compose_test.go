package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// composition is a compose file.
type composition struct {
	Services map[string]*composed `yaml:"services"`
	Volumes  map[string]any       `yaml:"volumes"`
}

// composed is a service of it.
type composed struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	Restart     string            `yaml:"restart"`
	DependsOn   map[string]any    `yaml:"depends_on"`
}

// interpolated is a variable of compose's, with its default.
var interpolated = regexp.MustCompile(`\$\{[A-Z_]+:-([^}]*)\}`)

func readCompose(t *testing.T, file string) *composition {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	c := &composition{}
	text = interpolated.ReplaceAll(text, []byte("$1")) // nothing is set
	check(t, yaml.Unmarshal(text, c))
	return c
}

// stack runs the services of a compose file that are the image of RCCS.
type stack struct {
	t       *testing.T
	file    *composition
	image   *image
	net     *network
	volumes string // a directory for each
	program string // of the image
}

func newStack(t *testing.T, file string) *stack {
	t.Helper()
	s := &stack{t: t, file: readCompose(t, file), image: readImage(t), net: newNetwork(), volumes: t.TempDir(), program: program}
	for _, name := range slices.Sorted(maps.Keys(s.file.Services)) {
		s.net.add(name)
	}
	return s
}

// volume is the directory of a named volume, or the file that a path names. A
// volume that is new takes owner and mode of the place in the image.
func (s *stack) volume(service, source, at string) string {
	s.t.Helper()
	if strings.HasPrefix(source, ".") {
		text, err := os.ReadFile(source)
		check(s.t, err)
		path := filepath.Join(s.t.TempDir(), filepath.Base(source))
		check(s.t, os.WriteFile(path, []byte(s.net.own(service, string(text))), 0o644))
		return path
	}
	if _, ok := s.file.Volumes[source]; !ok {
		s.t.Fatalf("%s has a volume %s that the file does not declare", service, source)
	}
	path := filepath.Join(s.volumes, source)
	if err := os.Mkdir(path, 0o755); err == nil && slices.Contains([]string{"/var/lib/rccs", "/run/rccs"}, at) {
		check(s.t, os.Chmod(path, 0o700))
		check(s.t, os.Chown(path, int(s.image.user), int(s.image.user)))
	}
	return path
}

// container is that of a service, with its volumes.
func (s *stack) container(name string) *container {
	s.t.Helper()
	service := s.file.Services[name]
	c := newContainer(s.t, s.net, name, s.program)
	c.user = s.image.user
	vars := maps.Clone(s.image.env)
	maps.Copy(vars, service.Environment)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		c.env = append(c.env, name+"="+s.net.own(c.name, vars[name]))
	}
	if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) {
		s.t.Errorf("%s may write its root or keeps capabilities", name)
	}
	type volume struct {
		source, at string
		readOnly   bool
	}
	var all []volume
	for _, v := range service.Volumes {
		parts := strings.Split(v, ":")
		all = append(all, volume{s.volume(name, parts[0], parts[1]), parts[1], len(parts) == 3 && parts[2] == "ro"})
		check(s.t, os.MkdirAll(filepath.Join(c.root, filepath.Dir(parts[1])), 0o755))
		if strings.HasPrefix(parts[0], ".") {
			check(s.t, os.WriteFile(filepath.Join(c.root, parts[1]), nil, 0o600))
		} else {
			check(s.t, os.MkdirAll(filepath.Join(c.root, parts[1]), 0o755))
		}
	}
	c.sealed()
	for _, v := range all {
		bind(s.t, v.source, filepath.Join(c.root, v.at), v.readOnly)
	}
	return c
}

// up starts a service, and says where the image's own health check is.
func (s *stack) up(name string) *container {
	s.t.Helper()
	c, command := s.container(name), s.file.Services[name].Command
	if command == nil {
		command = s.image.cmd
	}
	c.start(s.image.entrypoint[0], command...)
	return c
}

// healthy waits until the health check of the image succeeds in each.
func (s *stack) healthy(all ...*container) {
	s.t.Helper()
	for _, c := range all {
		testkit.Eventually(s.t, c.name+" is healthy", func() bool {
			_, err := c.run(s.image.health[0], s.image.health[1:]...)
			return err == nil
		})
	}
}

// token runs the one service that is no rccs: a script, here by this machine's
// shell.
func (s *stack) token() {
	s.t.Helper()
	service := s.file.Services["token"]
	at := s.volume("token", "admin", "/run/admin")
	script := strings.ReplaceAll(service.Command[2], "/run/admin", at)
	out, err := exec.CommandContext(s.t.Context(), service.Command[0], service.Command[1], script).CombinedOutput()
	if err != nil {
		s.t.Fatalf("the script of the token: %v\n%s", err, out)
	}
}

// delivers sends a message at one container, and is its device at another.
func delivers(t *testing.T, from *container, edge *container) {
	t.Helper()
	creds := filepath.Join(t.TempDir(), "phone.creds")
	check(t, os.WriteFile(creds, []byte(from.must("creds", "device", "alice/phone")), 0o600))
	from.must("send", "alice/phone", `{"n":1}`, "--server", "nats://"+from.address+":4222")
	got := command(t, "connect", "alice/phone", "--creds", creds, "--url", "ws://"+edge.address+":8080", "--count", "1", "--timeout", "60s")
	if !strings.Contains(got, `{"n":1}`) {
		t.Errorf("connect at %s printed %q", edge.name, got)
	}
}

func TestTheNodeOfTheComposeFileDelivers(t *testing.T) {
	t.Parallel()
	s := newStack(t, "compose.yaml")
	c := s.up("rccs")
	s.healthy(c)
	delivers(t, c, c)
}

// What `docker compose up` starts, in the order that the file says: once for the
// keys, and once more, as after a restart of the machine.
func TestTheClusterOfTheComposeFileDelivers(t *testing.T) {
	t.Parallel()
	s := newStack(t, "compose.cluster.yaml")
	keys := s.container("keys")
	for range 2 {
		s.token()
		keys.must(s.file.Services["keys"].Command...)
	}
	var all []*container
	for _, name := range []string{"server-1", "server-2", "server-3", "edge-1", "edge-2"} {
		for _, first := range []string{"keys", "token"} {
			if s.file.Services[name].DependsOn[first] == nil {
				t.Errorf("%s does not wait for %s", name, first)
			}
		}
		all = append(all, s.up(name))
	}
	s.healthy(all...)
	delivers(t, all[0], all[3])
	delivers(t, all[2], all[4]) // every server has the installation's keys
	if out, err := all[3].run("/usr/local/bin/rccs", "creds", "device", "alice/phone", "--data", "/run/rccs"); err == nil {
		t.Errorf("an edge has the keys that make credentials: %s", out)
	}
	s.scraped(all)
}

// scraped starts Prometheus with the cluster's configuration.
func (s *stack) scraped(all []*container) {
	s.t.Helper()
	program := need.Program(s.t, "prometheus")
	replace := []string{"/run/admin/token", filepath.Join(s.volumes, "admin", "token"), "scrape_interval: 15s", "scrape_interval: 1s"}
	for _, c := range all {
		replace = append(replace, `"`+c.name+`:`, `"`+c.address+`:`)
	}
	rules, err := filepath.Abs("prometheus/rules.yaml")
	check(s.t, err)
	file := configured(s.t, "prometheus/cluster.yaml", append(replace, "[rules.yaml]", "["+rules+"]")...)
	at := "127.0.0.1:" + freePort(s.t)
	start(s.t, program, "--config.file", file, "--storage.tsdb.path", filepath.Join(s.t.TempDir(), "data"), "--web.listen-address", at, "--log.level", "warn")
	m := &monitor{t: s.t, url: "http://" + at}
	testkit.Eventually(s.t, "Prometheus has scraped each process", func() bool {
		return len(m.query(`up{job="rccs"} == 1`)) == len(all)
	})
}

// The cluster's configuration is the built-in one and a block behind it.
func TestTheClustersConfigurationsAreTheBuiltInOne(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("../nats.conf")
	check(t, err)
	for _, file := range []string{"cluster/nats.conf", "helm/rccs/files/nats.conf"} {
		text, err := os.ReadFile(file)
		check(t, err)
		if !strings.HasPrefix(string(text), string(own)) {
			t.Errorf("%s does not begin with nats.conf: copy it again", file)
		}
	}
}

// linter is a program of testdata/linter, which CI installs with npm.
func linter(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("testdata/linter/node_modules/.bin/" + name)
	check(t, err)
	if _, err := os.Stat(path); err != nil {
		need.Missing(t, name+" is not installed below deploy/testdata/linter")
	}
	return path
}

// The rules that are off in dclint.json are about the order of keys, or unknowing:
// the image is built here under the name that it has, and ports are quoted.
func TestTheComposeFilesPassTheirLinter(t *testing.T) {
	t.Parallel()
	args := []string{"--config", "testdata/linter/dclint.json", "--max-warnings", "0"}
	dclint := linter(t, "dclint")
	if out, err := exec.CommandContext(t.Context(), dclint, append(args, "compose.yaml", "compose.cluster.yaml")...).CombinedOutput(); err != nil {
		t.Errorf("dclint: %v\n%s", err, out)
	}
	wrong := configured(t, "compose.yaml", "read_only: true", "read_alone: true")
	if out, err := exec.CommandContext(t.Context(), dclint, append(args, wrong)...).CombinedOutput(); err == nil {
		t.Errorf("a file that no engine takes passes:\n%s", out)
	}
}

// The linter finds one fault, which is none: it does not know that the command of
// a HEALTHCHECK with options may be an array.
func TestTheDockerfilePassesItsLinter(t *testing.T) {
	t.Parallel()
	out, _ := exec.CommandContext(t.Context(), linter(t, "dockerfilelint"), "--output", "json", "docker/Dockerfile").Output()
	var found struct {
		Files []struct {
			Issues []struct {
				Line    string `json:"line"`
				Content string `json:"content"`
				Title   string `json:"title"`
			} `json:"issues"`
		} `json:"files"`
	}
	check(t, json.Unmarshal(out, &found))
	if len(found.Files) != 1 {
		t.Fatalf("%s", out)
	}
	for _, issue := range found.Files[0].Issues {
		if !strings.HasPrefix(issue.Content, "HEALTHCHECK") || issue.Title != "Invalid Argument Format" {
			t.Errorf("line %s: %s: %s", issue.Line, issue.Title, issue.Content)
		}
	}
}
