package deploy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// fsGroup is what the pods of the manifests are given beside their user.
const secretMode = 0o440

// kubernetes runs the pods of the manifests, as a kubelet would: secrets and
// volumes belong to root and to the pod's fsGroup.
type kubernetes struct {
	t       *testing.T
	all     map[string]*object
	net     *network
	secrets map[string]map[string][]byte
	volumes string
}

// pod is one that runs.
type pod struct {
	*container
	*process
	spec containerSpec
}

// secret mounts one as a kubelet does: the files lie in a directory that a link
// leads to, so that all of them change at once.
func (k *kubernetes) secret(name string, group uint32) string {
	k.t.Helper()
	files := k.secrets[name]
	if len(files) == 0 {
		k.t.Fatalf("there is no secret %s", name)
	}
	mount := k.t.TempDir()
	check(k.t, os.Chown(mount, 0, int(group)))
	check(k.t, os.Chmod(mount, os.ModeSticky|os.ModeSetgid|0o777))
	const version = "..2026_11_28_23_00_00.1234567890"
	check(k.t, os.Mkdir(filepath.Join(mount, version), 0o755))
	check(k.t, os.Symlink(version, filepath.Join(mount, "..data")))
	for file, content := range files {
		path := filepath.Join(mount, version, file)
		check(k.t, os.WriteFile(path, content, 0o600))
		check(k.t, os.Chown(path, 0, int(group)))
		check(k.t, os.Chmod(path, secretMode))
		check(k.t, os.Symlink(filepath.Join("..data", file), filepath.Join(mount, file)))
	}
	return mount
}

// start starts a pod of a workload with a program.
func (k *kubernetes) start(workload, name, program string) *pod {
	k.t.Helper()
	spec := k.all[workload].Spec.Template.Spec
	c := newContainer(k.t, k.net, name, program)
	c.user, c.groups = spec.SecurityContext.RunAsUser, []uint32{spec.SecurityContext.FSGroup}
	p := &pod{container: c, spec: spec.Containers[0]}
	for _, e := range p.spec.Env {
		value := k.net.own(name, e.Value)
		if e.ValueFrom != nil {
			if e.ValueFrom.FieldRef.FieldPath != "metadata.name" {
				k.t.Fatalf("%s: what is %q?", e.Name, e.ValueFrom.FieldRef.FieldPath)
			}
			value = name
		}
		c.env = append(c.env, e.Name+"="+value)
	}
	type mount struct {
		source, at string
		readOnly   bool
	}
	var mounts []mount
	for _, m := range p.spec.VolumeMounts {
		mounts = append(mounts, mount{k.source(workload, name, m.Name, spec), m.MountPath, m.ReadOnly})
		check(k.t, os.MkdirAll(filepath.Join(c.root, m.MountPath), 0o755))
	}
	c.sealed()
	for _, m := range mounts {
		bind(k.t, m.source, filepath.Join(c.root, m.at), m.readOnly)
	}
	p.process = c.start("/usr/local/bin/rccs", p.spec.Args...)
	return p
}

// source is the directory of a volume of a pod.
func (k *kubernetes) source(workload, pod, volume string, spec podSpec) string {
	k.t.Helper()
	group := spec.SecurityContext.FSGroup
	for _, v := range spec.Volumes {
		switch {
		case v.Name != volume:
		case v.Secret != nil:
			if v.Secret.DefaultMode != secretMode {
				k.t.Errorf("secret %s is mounted with mode %o", v.Secret.SecretName, v.Secret.DefaultMode)
			}
			return k.secret(v.Secret.SecretName, group)
		case v.ConfigMap != nil:
			dir := k.t.TempDir()
			check(k.t, os.Chmod(dir, 0o755))
			for file, text := range k.all["ConfigMap/"+v.ConfigMap.Name].Data {
				check(k.t, os.WriteFile(filepath.Join(dir, file), []byte(k.net.own(pod, text)), 0o644))
			}
			return dir
		}
	}
	// A claim: its volume outlives the pod, and is the group's at each mount.
	dir := filepath.Join(k.volumes, pod+"-"+volume)
	if len(k.all[workload].Spec.VolumeClaimTemplates) != 1 || k.all[workload].Spec.VolumeClaimTemplates[0].Metadata.Name != volume {
		k.t.Fatalf("%s has no volume %s", workload, volume)
	}
	check(k.t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700))
	check(k.t, os.Chown(dir, 0, int(group)))
	check(k.t, os.Chmod(dir, os.ModeSetgid|0o775))
	return dir
}

// probed waits until a probe succeeds.
func (k *kubernetes) probed(p *pod, probe probe) {
	k.t.Helper()
	port := 0
	for _, listed := range p.spec.Ports {
		if listed.Name == probe.HTTPGet.Port {
			port = listed.ContainerPort
		}
	}
	url := "http://" + net.JoinHostPort(p.address, strconv.Itoa(port)) + probe.HTTPGet.Path
	testkit.Eventually(k.t, p.container.name+" answers "+probe.HTTPGet.Path, func() bool { return get(k.t, url) == 200 })
}

// stop ends a pod as a kubelet does: what is to happen before, then SIGTERM.
func (k *kubernetes) stop(p *pod) {
	k.t.Helper()
	if before := p.spec.Lifecycle.PreStop.Exec.Command; len(before) > 0 {
		if out, err := p.run(before[0], before[1:]...); err != nil {
			k.t.Errorf("%s: %q: %v\n%s", p.container.name, before, err, out)
		}
	}
	p.terminate(k.t)
}

// endpoints is the Service before the edges: a connection goes to one of those
// that are ready.
type endpoints struct {
	at string

	mu   sync.Mutex
	to   []string
	next int
}

func newEndpoints(t *testing.T) *endpoints {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	e := &endpoints{at: l.Addr().String()}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it ends with the clean-up, after the device's
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { e.pass(ctx, c) })
		}
	})
	return e
}

// set says which edges are ready.
func (e *endpoints) set(pods ...*pod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.to = nil
	for _, p := range pods {
		e.to = append(e.to, net.JoinHostPort(p.address, "8080"))
	}
}

// pass hands a connection on to an edge.
func (e *endpoints) pass(ctx context.Context, c net.Conn) {
	defer c.Close()
	e.mu.Lock()
	to := e.to[e.next%len(e.to)]
	e.next++
	e.mu.Unlock()
	edge, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer edge.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), edge.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { pipe(c, edge) })
	pipe(edge, c)
	back.Wait()
}

// pipe copies until either side ends, and then ends both.
func pipe(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			_, _ = to.Close(), from.Close()
			return
		}
	}
}

// secretsOf are those that docs/kubernetes.md has made.
func secretsOf(t *testing.T) (data string, secrets map[string]map[string][]byte) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "rccs")
	creds := command(t, "creds", "part", "edges", "--init", "--data", data)
	entries, err := os.ReadDir(filepath.Join(data, "keys"))
	check(t, err)
	keys := make(map[string][]byte)
	for _, e := range entries {
		if keys[e.Name()], err = os.ReadFile(filepath.Join(data, "keys", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return data, map[string]map[string][]byte{
		"rccs-keys":  keys,
		"rccs-edge":  {"edge.creds": []byte(creds)},
		"rccs-admin": {"token": []byte("0123456789abcdef0123456789abcdef\n")},
	}
}

// The pods of the manifests, each a process: three servers and two edges go from
// one version to the next, one after the other, while messages are sent and a
// device is connected.
func TestARollingUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	next, err := testkit.Build(t.TempDir(), "-trimpath", "-ldflags", "-X main.version=next")
	check(t, err)
	k := &kubernetes{t: t, all: manifests(t), net: newNetwork(), volumes: t.TempDir()}
	var data string
	data, k.secrets = secretsOf(t)
	const servers, edges = "StatefulSet/rccs-server", "Deployment/rccs-edge"
	for i := range k.all[servers].Spec.Replicas {
		k.net.add(fmt.Sprint("rccs-server-", i))
	}
	for _, name := range []string{"edge-a", "edge-b", "edge-c", "edge-d"} {
		k.net.add(name)
	}
	for i := range k.all[servers].Spec.Replicas { // the names that the headless service gives
		name := fmt.Sprint("rccs-server-", i)
		k.net.hosts[name+"."+k.all[servers].Spec.ServiceName] = k.net.hosts[name]
	}
	var server []*pod
	for i := range k.all[servers].Spec.Replicas {
		server = append(server, k.start(servers, fmt.Sprint("rccs-server-", i), program))
	}
	edge := []*pod{k.start(edges, "edge-a", program), k.start(edges, "edge-b", program)}
	for _, p := range append(slices.Clone(server), edge...) {
		k.probed(p, p.spec.Readiness)
	}
	service := newEndpoints(t)
	service.set(edge...)

	var urls []string
	for _, p := range server {
		urls = append(urls, "nats://"+p.address+":4222")
	}
	creds := filepath.Join(t.TempDir(), "phone.creds")
	check(t, os.WriteFile(creds, []byte(command(t, "creds", "device", "alice/phone", "--data", data)), 0o600))
	device := start(t, program, "connect", "alice/phone", "--creds", creds, "--url", "ws://"+service.at)
	testkit.Eventually(t, "the device is connected", func() bool { return strings.Contains(device.String(), "connected as alice/phone") })

	sent, stop := k.sending(data, strings.Join(urls, ","))
	arrived := func(what string) {
		n := sent() + 1
		testkit.Eventually(t, "messages arrive "+what, func() bool { return strings.Contains(device.String(), body(n)) })
	}
	arrived("before the upgrade")
	for i := len(server) - 1; i >= 0; i-- { // a StatefulSet begins with the last
		k.stop(server[i])
		server[i] = k.start(servers, server[i].container.name, next)
		k.probed(server[i], server[i].spec.Readiness)
		arrived("after an upgrade of " + server[i].container.name)
	}
	for i, name := range []string{"edge-c", "edge-d"} { // a Deployment adds one before it removes one
		old := edge[i]
		edge[i] = k.start(edges, name, next)
		k.probed(edge[i], edge[i].spec.Readiness)
		service.set(edge...)
		k.stop(old)
		arrived("without " + old.container.name)
	}
	n := stop()
	testkit.Eventually(t, "the last message arrives", func() bool { return strings.Contains(device.String(), body(n)) })
	k.complete(device, n)
	for _, p := range append(slices.Clone(server), edge...) {
		if got := p.must("version"); !strings.Contains(got, "next") {
			t.Errorf("%s runs %s", p.container.name, got)
		}
	}
}

// body is the n-th message.
func body(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

// complete checks that each message came, and in order.
func (k *kubernetes) complete(device *testkit.Log, last int) {
	k.t.Helper()
	n := 1
	for line := range strings.Lines(device.String()) {
		if strings.Contains(line, body(n)) {
			n++
		}
	}
	if n != last+1 {
		k.t.Errorf("%d messages were accepted, %d came in order", last, n-1)
	}
	k.t.Logf("%d messages were sent meanwhile", last)
}

// sending sends messages one after the other, each until it is accepted, until
// stop is called, which says how many.
func (k *kubernetes) sending(data, urls string) (sent func() int, stop func() int) {
	var mu sync.Mutex
	var n int
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 1; ; i++ {
			for {
				cmd := exec.Command(program, "send", "alice/phone", body(i), "--id", fmt.Sprint("m", i), "--data", data, "--server", urls)
				cmd.Env = testkit.Environ()
				if cmd.Run() == nil {
					break
				}
				select {
				case <-done: // it was not accepted
					return
				default:
				}
			}
			mu.Lock()
			n = i
			mu.Unlock()
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	sent = func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
	var once sync.Once
	stop = func() int {
		once.Do(func() { close(done) })
		<-ended
		return sent()
	}
	k.t.Cleanup(func() { stop() })
	return sent, stop
}
