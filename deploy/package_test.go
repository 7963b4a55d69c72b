//go:build release

// A release takes minutes and programs that few have: `make release-check` builds
// this test, and `make test` does not.

package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// release builds what .goreleaser.yaml says for this machine's system and
// processor alone, and returns the directory of it.
func release(t *testing.T) string {
	t.Helper()
	goreleaser, sbom := tool(t, "goreleaser"), tool(t, "cyclonedx-gomod")
	need.Program(t, "npm") // a release has the console
	text, err := os.ReadFile("../.goreleaser.yaml")
	check(t, err)
	var config map[string]any
	check(t, yaml.Unmarshal(text, &config))
	dir := t.TempDir()
	dist := filepath.Join(dir, "dist")
	config["dist"] = dist
	builds, ok := config["builds"].([]any)
	if !ok || len(builds) != 1 {
		t.Fatalf("builds: %v", config["builds"])
	}
	build, ok := builds[0].(map[string]any)
	if !ok {
		t.Fatalf("builds: %v", builds)
	}
	build["goos"], build["goarch"] = []string{runtime.GOOS}, []string{runtime.GOARCH}
	text, err = yaml.Marshal(config)
	check(t, err)
	file := filepath.Join(dir, "goreleaser.yaml")
	check(t, os.WriteFile(file, text, 0o600))
	cmd := exec.CommandContext(t.Context(), goreleaser, "release", "--snapshot", "--clean", "--config", file)
	cmd.Dir = ".."
	cmd.Env = append(testkit.Environ(), "PATH="+filepath.Dir(sbom)+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("goreleaser: %v\n%s", err, out)
	}
	return dist
}

// only returns the one file that a pattern finds.
func only(t *testing.T, dist, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dist, pattern))
	check(t, err)
	if len(all) != 1 {
		t.Fatalf("%s: %q", pattern, all)
	}
	return all[0]
}

// One build is enough for what a release holds: it takes a minute.
func TestARelease(t *testing.T) {
	t.Parallel()
	dist := release(t)
	t.Run("each file has its checksum and each program its parts", func(t *testing.T) {
		sums, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
		check(t, err)
		for _, pattern := range []string{"rccs_*.tar.gz", "rccs_*.deb", "rccs*.rpm", "rccs_*.cdx.json"} {
			if name := filepath.Base(only(t, dist, pattern)); !strings.Contains(string(sums), "  "+name+"\n") {
				t.Errorf("SHA256SUMS lacks %s:\n%s", name, sums)
			}
		}
		parts, err := os.ReadFile(only(t, dist, "rccs_*.cdx.json"))
		check(t, err)
		if !strings.Contains(string(parts), "pkg:golang/github.com/nats-io/nats-server/v2@") {
			t.Errorf("the list of parts lacks the NATS server: %.200s", parts)
		}
	})
	t.Run("the archive has all of it", func(t *testing.T) { archive(t, only(t, dist, "rccs_*.tar.gz")) })
	t.Run("the deb installs, and its unit's command serves", func(t *testing.T) { debian(t, only(t, dist, "rccs_*.deb")) })
}

// archive unpacks an archive and starts the program in it.
func archive(t *testing.T, path string) {
	dir := t.TempDir()
	content, err := os.ReadFile(path)
	check(t, err)
	z, err := gzip.NewReader(bytes.NewReader(content))
	check(t, err)
	names := make(map[string]string)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		_, name, _ := strings.Cut(h.Name, "/")
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		content, err := io.ReadAll(r)
		check(t, err)
		check(t, os.WriteFile(to, content, os.FileMode(h.Mode)&0o777)) //nolint:gosec // a mode has no more bits
		names[name] = to
	}
	for _, want := range []string{
		"rccs", "LICENSE", "README.md", "CHANGELOG.md", "nats.conf", "man/rccs.1", "man/rccs-serve.1",
		"completions/rccs.bash", "completions/_rccs", "completions/rccs.fish", "completions/rccs.ps1",
	} {
		if names[want] == "" {
			t.Errorf("it has no %s", want)
		}
	}
	out := start(t, names["rccs"], "serve", "--data", filepath.Join(t.TempDir(), "data"),
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	hasConsole(t, "http://"+after(t, out, "admin", "http://"))
}

// hasConsole checks that the console is in the program that answers.
func hasConsole(t *testing.T, admin string) {
	t.Helper()
	resp, err := http.Get(admin + "/console/") //nolint:noctx // it ends with the test
	check(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	check(t, err)
	if !strings.Contains(string(page), "<script") {
		t.Errorf("the console is not in the program:\n%s", page)
	}
}

// debian installs the package below a root of its own, by dpkg, and starts the
// command of its unit as it stands, as the unit's user and with that root.
func debian(t *testing.T, deb string) {
	dpkg, sysusers := need.Program(t, "dpkg"), need.Program(t, "systemd-sysusers")
	if os.Geteuid() != 0 {
		need.Skip(t, "only root can give a process another root")
	}
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "tmp"} {
		check(t, os.MkdirAll(filepath.Join(root, dir), 0o755)) //nolint:gosec // as a system's root is
	}
	check(t, os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644))
	install := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), dpkg, append([]string{"--root=" + root, "--force-script-chrootless"}, args...)...)
		cmd.Env = append(testkit.Environ(), "PATH="+filepath.Dir(sysusers)+":/usr/sbin:/sbin:"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("dpkg %q: %v\n%s", args, err, out)
		}
	}
	install("--install", deb)
	for file, mode := range map[string]os.FileMode{
		"usr/bin/rccs": 0o755, "usr/lib/systemd/system/rccs.service": 0o644, "etc/rccs/rccs.env": 0o640,
		"usr/share/man/man1/rccs.1.gz": 0o644, "usr/share/man/man1/rccs-serve.1.gz": 0o644,
		"usr/share/bash-completion/completions/rccs": 0o644, "usr/share/zsh/vendor-completions/_rccs": 0o644,
		"usr/share/fish/vendor_completions.d/rccs.fish": 0o644, "usr/share/doc/rccs/copyright": 0o644,
	} {
		info, err := os.Stat(filepath.Join(root, file))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	c := serviceOf(t, root)
	unit := c.start(c.exec[0], c.exec[1:]...)
	admin := "http://" + c.address + ":8081"
	testkit.Eventually(t, "it is ready", func() bool { return get(t, admin+"/readyz") == 200 })
	hasConsole(t, admin)
	delivers(t, c.container, c.container)
	info, err := os.Stat(filepath.Join(root, "var/lib/rccs/keys"))
	check(t, err)
	if info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != c.user {
		t.Errorf("keys: mode %s of user %d", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}

	// An upgrade leaves settings and data as they are, and a removal the data.
	settings := filepath.Join(root, "etc/rccs/rccs.env")
	check(t, os.WriteFile(settings, []byte("# mine\n"), 0o640)) //nolint:gosec // as it was
	install("--install", deb)
	if text, err := os.ReadFile(settings); err != nil || string(text) != "# mine\n" {
		t.Errorf("after an upgrade the settings are %q, %v", text, err)
	}
	unit.terminate(t)
	install("--purge", "rccs")
	if _, err := os.Stat(filepath.Join(root, "usr/bin/rccs")); !os.IsNotExist(err) {
		t.Errorf("after a removal: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/rccs/keys/operator.nk")); err != nil {
		t.Errorf("a purge took the keys: %v", err)
	}
}

// service is what systemd would start.
type service struct {
	*container
	exec []string
}

// serviceOf reads the unit below a root, and does what systemd does before it
// starts the command: directories, user, and variables. The addresses of the
// variables are on an address that nobody else here uses.
func serviceOf(t *testing.T, root string) *service {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system/rccs.service"))
	check(t, err)
	value := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return string(m[1])
	}
	n := newNetwork()
	n.add("rccs")
	s := &service{container: &container{t: t, name: "rccs", address: n.hosts["rccs"], root: root}, exec: strings.Fields(value("ExecStart"))}
	users, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	check(t, err)
	m := regexp.MustCompile(`(?m)^` + value("User") + `:[^:]*:(\d+):(\d+):`).FindSubmatch(users)
	if m == nil {
		t.Fatalf("the installation made no user %s:\n%s", value("User"), users)
	}
	id, err := strconv.ParseUint(string(m[1]), 10, 32)
	check(t, err)
	s.user = uint32(id)
	if s.user == 0 {
		t.Fatal("the unit runs as root")
	}
	state := filepath.Join(root, "var/lib", value("StateDirectory"))
	check(t, os.MkdirAll(state, 0o700))
	mode, err := strconv.ParseUint(value("StateDirectoryMode"), 8, 32)
	check(t, err)
	check(t, os.Chmod(state, os.FileMode(mode)))
	check(t, os.Chown(state, int(s.user), int(s.user)))
	settings, err := os.ReadFile(filepath.Join(root, strings.TrimPrefix(value("EnvironmentFile"), "-/")))
	check(t, err)
	for line := range strings.Lines(n.own("rccs", string(settings))) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.env = append(s.env, line)
		}
	}
	if !slices.ContainsFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "RCCS_LISTEN="+s.address) }) {
		t.Errorf("the settings are %q", s.env)
	}
	// The commands of a test that run in the same root find the data.
	s.env = append(s.env, "RCCS_DATA=/var/lib/rccs")
	check(t, os.MkdirAll(filepath.Join(root, "usr/local/bin"), 0o755)) //nolint:gosec // as a system's root is
	check(t, os.Symlink("/usr/bin/rccs", filepath.Join(root, "usr/local/bin/rccs")))
	return s
}
