//go:build release

// A release takes minutes and programs that few have: `make release-check` builds
// one, and then this test, which `make test` does not.

package deploy_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// target is a system and a processor that a release is for.
type target struct{ os, arch string }

// targets are all of them.
var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"},
}

// release is the directory of a release that was built before the test.
func release(t *testing.T) string {
	t.Helper()
	dist := os.Getenv("RCCS_DIST")
	if dist == "" {
		t.Fatal("RCCS_DIST names no directory: `make release-check` builds a release, and has this test look at it")
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

// published are the files of a release that somebody downloads.
func published(t *testing.T, dist string) (all []string) {
	t.Helper()
	for _, at := range targets {
		suffix := ".tar.gz"
		if at.os == "windows" {
			suffix = ".zip"
		}
		all = append(all, only(t, dist, "rccs_*_"+at.os+"_"+at.arch+suffix), only(t, dist, "rccs_*_"+at.os+"_"+at.arch+".cdx.json"))
		if at.os == "linux" {
			all = append(all, only(t, dist, "rccs_*_linux_"+at.arch+".deb"), only(t, dist, "rccs_*_linux_"+at.arch+".rpm"))
		}
	}
	return all
}

func TestAReleaseHasAChecksumForEachFile(t *testing.T) {
	t.Parallel()
	dist := release(t)
	text, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	check(t, err)
	sums := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Errorf("SHA256SUMS: %q", line)
		}
		sums[name] = sum
	}
	all := published(t, dist)
	if len(sums) != len(all) {
		t.Errorf("SHA256SUMS names %d files, want %d:\n%s", len(sums), len(all), text)
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		check(t, err)
		if got := fmt.Sprintf("%x", sha256.Sum256(content)); sums[filepath.Base(path)] != got {
			t.Errorf("%s: %s, and SHA256SUMS says %q", filepath.Base(path), got, sums[filepath.Base(path)])
		}
	}
}

func TestAReleaseSaysWhatEachProgramIsMadeOf(t *testing.T) {
	t.Parallel()
	dist := release(t)
	for _, at := range targets {
		text, err := os.ReadFile(only(t, dist, "rccs_*_"+at.os+"_"+at.arch+".cdx.json"))
		check(t, err)
		var bom struct {
			Format     string `json:"bomFormat"`
			Components []struct{ Name, Version, PURL string }
		}
		check(t, json.Unmarshal(text, &bom))
		if bom.Format != "CycloneDX" || !slices.ContainsFunc(bom.Components, func(c struct{ Name, Version, PURL string }) bool {
			return c.Name == "github.com/nats-io/nats-server/v2" && strings.HasPrefix(c.Version, "v2.") && c.PURL != ""
		}) {
			t.Errorf("%v: the list lacks the NATS server: %.200s", at, text)
		}
	}
}

func TestAReleaseHasAnArchiveForEachSystem(t *testing.T) {
	t.Parallel()
	dist := release(t)
	for _, at := range targets {
		t.Run(at.os+" "+at.arch, func(t *testing.T) {
			program, files := "rccs", map[string]string(nil)
			if at.os == "windows" {
				program = "rccs.exe"
				files = unzip(t, only(t, dist, "rccs_*_windows_"+at.arch+".zip"))
			} else {
				files = untar(t, only(t, dist, "rccs_*_"+at.os+"_"+at.arch+".tar.gz"))
			}
			for _, want := range []string{
				program, "LICENSE", "README.md", "CHANGELOG.md", "nats.conf", "man/rccs.1", "man/rccs-serve.1",
				"completions/rccs.bash", "completions/_rccs", "completions/rccs.fish", "completions/rccs.ps1",
			} {
				if files[want] == "" {
					t.Errorf("it has no %s", want)
				}
			}
			isFor(t, files[program], at)
			if at.os == runtime.GOOS && at.arch == runtime.GOARCH {
				out := start(t, files[program], "serve", "--data", filepath.Join(t.TempDir(), "data"),
					"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
				hasConsole(t, "http://"+after(t, out, "admin", "http://"))
			}
		})
	}
}

// isFor checks that a program was built for a system, without C.
func isFor(t *testing.T, path string, at target) {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	check(t, err)
	built := make(map[string]string)
	for _, s := range info.Settings {
		built[s.Key] = s.Value
	}
	if built["GOOS"] != at.os || built["GOARCH"] != at.arch || built["CGO_ENABLED"] != "0" || built["-trimpath"] != "true" {
		t.Errorf("the program for %v was built with %v", at, built)
	}
	content, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Contains(content, []byte("dist/assets/index-")) {
		t.Errorf("the program for %v has no console", at)
	}
}

// unpacked writes files of archives below a directory of the test's own.
type unpacked struct {
	t     *testing.T
	dir   string
	files map[string]string
}

// write writes a file, which is known afterwards by its name without the
// archive's own directory.
func (u *unpacked) write(name string, mode os.FileMode, r io.Reader) {
	u.t.Helper()
	_, name, _ = strings.Cut(name, "/")
	to := filepath.Join(u.dir, strings.ReplaceAll(name, "/", "_"))
	content, err := io.ReadAll(r)
	check(u.t, err)
	check(u.t, os.WriteFile(to, content, mode.Perm()))
	u.files[name] = to
}

func untar(t *testing.T, path string) map[string]string {
	t.Helper()
	u := &unpacked{t, t.TempDir(), make(map[string]string)}
	content, err := os.ReadFile(path)
	check(t, err)
	z, err := gzip.NewReader(bytes.NewReader(content))
	check(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return u.files
		}
		check(t, err)
		u.write(h.Name, h.FileInfo().Mode(), r)
	}
}

func unzip(t *testing.T, path string) map[string]string {
	t.Helper()
	u := &unpacked{t, t.TempDir(), make(map[string]string)}
	z, err := zip.OpenReader(path)
	check(t, err)
	defer func() { _ = z.Close() }()
	for _, f := range z.File {
		r, err := f.Open()
		check(t, err)
		u.write(f.Name, f.Mode(), r)
		check(t, r.Close())
	}
	return u.files
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

// installed are the files of a package and their modes, but for what zsh
// completes, which lies elsewhere in each.
var installed = map[string]os.FileMode{
	"usr/bin/rccs": 0o755, "usr/lib/systemd/system/rccs.service": 0o644, "usr/lib/sysusers.d/rccs.conf": 0o644, "etc/rccs/rccs.env": 0o640,
	"usr/share/man/man1/rccs.1.gz": 0o644, "usr/share/man/man1/rccs-serve.1.gz": 0o644,
	"usr/share/bash-completion/completions/rccs":    0o644,
	"usr/share/fish/vendor_completions.d/rccs.fish": 0o644, "usr/share/doc/rccs/copyright": 0o644,
}

func hasInstalled(t *testing.T, root, zsh string) {
	t.Helper()
	want := maps.Clone(installed)
	want[zsh] = 0o644
	for file, mode := range want {
		info, err := os.Stat(filepath.Join(root, file))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

// The other processor's package is unpacked, and this one's is installed.
func TestTheDebsOfARelease(t *testing.T) {
	t.Parallel()
	dist := release(t)
	deb := need.Program(t, "dpkg-deb")
	for _, arch := range []string{"amd64", "arm64"} {
		path, root := only(t, dist, "rccs_*_linux_"+arch+".deb"), t.TempDir()
		if out, err := exec.CommandContext(t.Context(), deb, "-x", path, root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		hasInstalled(t, root, "usr/share/zsh/vendor-completions/_rccs")
		isFor(t, filepath.Join(root, "usr/bin/rccs"), target{"linux", arch})
		out, err := exec.CommandContext(t.Context(), deb, "-f", path, "Package", "Architecture").Output()
		check(t, err)
		if want := "Package: rccs\nArchitecture: " + arch + "\n"; string(out) != want {
			t.Errorf("the package says %q, want %q", out, want)
		}
	}
	debian(t, only(t, dist, "rccs_*_linux_"+runtime.GOARCH+".deb"))
}

// rpm installs into a root of its own, without scripts: there is no shell.
func TestTheRPMsOfARelease(t *testing.T) {
	t.Parallel()
	dist := release(t)
	rpm, toCPIO, cpio := need.Program(t, "rpm"), need.Program(t, "rpm2cpio"), need.Program(t, "cpio")
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		path, root := only(t, dist, "rccs_*_linux_"+arch+".rpm"), t.TempDir()
		run("sh", "-c", `"$1" "$2" | (cd "$3" && "$4" -idm --quiet --no-absolute-filenames)`, "-", toCPIO, path, root, cpio)
		hasInstalled(t, root, "usr/share/zsh/site-functions/_rccs")
		isFor(t, filepath.Join(root, "usr/bin/rccs"), target{"linux", arch})
		if got, want := run(rpm, "-qp", "--qf", "%{NAME} %{ARCH}", path), map[string]string{"amd64": "rccs x86_64", "arm64": "rccs aarch64"}[arch]; got != want {
			t.Errorf("the package says %q, want %q", got, want)
		}
		scripts := run(rpm, "-qp", "--scripts", path)
		for _, script := range []string{"postinstall.sh", "preremove.sh", "postremove.sh"} {
			text, err := os.ReadFile(filepath.Join("packages", script))
			check(t, err)
			if !strings.Contains(scripts, strings.TrimSpace(string(text))) {
				t.Errorf("the package has not the script %s:\n%s", script, scripts)
			}
		}
	}
	if os.Geteuid() != 0 {
		need.Skip(t, "only root installs into another root")
	}
	path, root := only(t, dist, "rccs_*_linux_"+runtime.GOARCH+".rpm"), t.TempDir()
	in := func(args ...string) {
		t.Helper()
		run(rpm, append([]string{"--root", root, "--nodeps", "--noscripts"}, args...)...)
	}
	in("-U", path)
	hasInstalled(t, root, "usr/share/zsh/site-functions/_rccs")
	settings, key := filepath.Join(root, "etc/rccs/rccs.env"), filepath.Join(root, "var/lib/rccs/keys/operator.nk")
	check(t, os.MkdirAll(filepath.Dir(key), 0o700))
	check(t, os.WriteFile(key, []byte("a key"), 0o600))
	check(t, os.WriteFile(settings, []byte("# mine\n"), 0o640))
	in("-U", "--force", path)
	if text, err := os.ReadFile(settings); err != nil || string(text) != "# mine\n" {
		t.Errorf("after an upgrade the settings are %q, %v", text, err)
	}
	out := start(t, filepath.Join(root, "usr/bin/rccs"), "serve", "--data", filepath.Join(t.TempDir(), "data"),
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	hasConsole(t, "http://"+after(t, out, "admin", "http://"))
	in("-e", "rccs")
	if _, err := os.Stat(filepath.Join(root, "usr/bin/rccs")); !os.IsNotExist(err) {
		t.Errorf("after a removal: %v", err)
	}
	if _, err := os.Stat(key); err != nil {
		t.Errorf("a removal took the keys: %v", err)
	}
}

// debian installs the package below a root of its own, by dpkg, and starts the
// command of its unit as it stands, as the unit's user and with that root.
func debian(t *testing.T, deb string) {
	t.Helper()
	dpkg, sysusers := need.Program(t, "dpkg"), need.Program(t, "systemd-sysusers")
	if os.Geteuid() != 0 {
		need.Skip(t, "only root can give a process another root")
	}
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "tmp"} {
		check(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
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
	hasInstalled(t, root, "usr/share/zsh/vendor-completions/_rccs")
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
	check(t, os.WriteFile(settings, []byte("# mine\n"), 0o640))
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
	check(t, os.MkdirAll(filepath.Join(root, "usr/local/bin"), 0o755))
	check(t, os.Symlink("/usr/bin/rccs", filepath.Join(root, "usr/local/bin/rccs")))
	return s
}
