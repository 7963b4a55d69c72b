package deploy_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// There is no container engine here. What one would do is done by hand: each
// container is a process with a root of its own that it cannot write to, volumes
// mounted into it, a user without rights, and an address and a name that the
// others reach it by. The program, its arguments, its variables and all paths are
// those of the files that are tested.

// network gives containers addresses on the loopback interface, all of whose
// 127.0.0.0/8 is this machine.
type network struct {
	prefix string
	hosts  map[string]string // addresses by name
}

func newNetwork() *network {
	return &network{prefix: fmt.Sprintf("127.%d.%d.", 10+rand.IntN(240), rand.IntN(256)), hosts: make(map[string]string)}
}

// add names a container.
func (n *network) add(name string) {
	n.hosts[name] = n.prefix + strconv.Itoa(len(n.hosts)+1)
}

// own is a text in which a container's listening addresses are its own: the
// containers share this machine, so that none can have all of its addresses.
func (n *network) own(name, text string) string {
	return strings.NewReplacer("0.0.0.0", n.hosts[name], "127.0.0.1", n.hosts[name]).Replace(text)
}

// container is a process with a root of its own.
type container struct {
	t       *testing.T
	name    string
	address string
	root    string
	env     []string
	user    uint32
	groups  []uint32
}

// newContainer lays out the root: the program and what names hosts.
func newContainer(t *testing.T, n *network, name, program string) *container {
	t.Helper()
	if os.Geteuid() != 0 {
		need.Skip(t, "only root can give a process another root")
	}
	c := &container{t: t, name: name, address: n.hosts[name], root: filepath.Join(t.TempDir(), "root")}
	var hosts strings.Builder
	for _, name := range slices.Sorted(maps.Keys(n.hosts)) {
		fmt.Fprintf(&hosts, "%s %s\n", n.hosts[name], name)
	}
	for _, dir := range []string{"usr/local/bin", "etc", "tmp"} {
		check(t, os.MkdirAll(filepath.Join(c.root, dir), 0o755))
	}
	check(t, os.Chmod(filepath.Join(c.root, "tmp"), os.ModeSticky|0o777))
	check(t, os.WriteFile(filepath.Join(c.root, "etc/hosts"), []byte(hosts.String()), 0o644))
	check(t, os.WriteFile(filepath.Join(c.root, "etc/nsswitch.conf"), []byte("hosts: files\n"), 0o644))
	check(t, os.Link(program, filepath.Join(c.root, "usr/local/bin/rccs")))
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sealed makes the root read-only. Mounts come after it.
func (c *container) sealed() {
	c.t.Helper()
	bind(c.t, c.root, c.root, true)
}

func bind(t *testing.T, source, target string, readOnly bool) {
	t.Helper()
	err := syscall.Mount(source, target, "", syscall.MS_BIND, "")
	if errors.Is(err, syscall.EPERM) {
		need.Skip(t, "this machine lets nobody mount")
	}
	check(t, err)
	t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	if readOnly {
		check(t, syscall.Mount(source, target, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	}
}

// command is the program in the container, as the container's user.
func (c *container) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = "/", c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: c.root, Credential: &syscall.Credential{Uid: c.user, Gid: c.user, Groups: c.groups},
	}
	return cmd
}

// run runs a command in the container to its end.
func (c *container) run(path string, args ...string) (string, error) {
	out, err := c.command(path, args...).CombinedOutput()
	return string(out), err
}

// must is the same, for one that has to succeed.
func (c *container) must(args ...string) string {
	c.t.Helper()
	out, err := c.run("/usr/local/bin/rccs", args...)
	if err != nil {
		c.t.Fatalf("%s: rccs %q: %v\n%s", c.name, args, err, out)
	}
	return out
}

// start starts the container's process, which ends with the test.
func (c *container) start(path string, args ...string) *process {
	c.t.Helper()
	cmd, out := c.command(path, args...), new(testkit.Log)
	cmd.Stdout, cmd.Stderr = out, out
	check(c.t, cmd.Start())
	p := &process{name: c.name, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	c.t.Cleanup(func() {
		p.terminate(c.t)
		if c.t.Failed() {
			c.t.Logf("%s printed:\n%s", c.name, out)
		}
	})
	return p
}

// process is one that a container runs.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// terminate asks it to end, and waits.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	testkit.Await(t, p.name+" ends", p.ended)
}

// image is what the last stage of a Dockerfile says.
type image struct {
	env                     map[string]string
	user                    uint32
	entrypoint, cmd, health []string
}

var (
	continued   = regexp.MustCompile(`\\\n\s*`)
	setting     = regexp.MustCompile(`([A-Z_]+)=(\S+)`)
	instruction = regexp.MustCompile(`(?m)^(USER|ENV|ENTRYPOINT|CMD|HEALTHCHECK) (.*)$`)
	word        = regexp.MustCompile(`"([^"]*)"`)
)

// readImage reads deploy/docker/Dockerfile.
func readImage(t *testing.T) *image {
	t.Helper()
	text, err := os.ReadFile("docker/Dockerfile")
	check(t, err)
	stages := strings.Split("\n"+string(text), "\nFROM ")
	i := &image{env: make(map[string]string)}
	for _, m := range instruction.FindAllStringSubmatch(continued.ReplaceAllString(stages[len(stages)-1], " "), -1) {
		var words []string
		for _, w := range word.FindAllStringSubmatch(m[2], -1) {
			words = append(words, w[1])
		}
		switch m[1] {
		case "USER":
			user, _, _ := strings.Cut(m[2], ":")
			id, err := strconv.ParseUint(user, 10, 32)
			check(t, err)
			i.user = uint32(id)
		case "ENV":
			for _, s := range setting.FindAllStringSubmatch(m[2], -1) {
				i.env[s[1]] = s[2]
			}
		case "ENTRYPOINT":
			i.entrypoint = words
		case "CMD":
			i.cmd = words
		case "HEALTHCHECK":
			i.health = words
		}
	}
	if i.user == 0 || len(i.env) == 0 || len(i.entrypoint) != 1 || len(i.cmd) == 0 || len(i.health) != 2 {
		t.Fatalf("the Dockerfile's last stage was read as %+v", *i)
	}
	return i
}
