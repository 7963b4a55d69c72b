package deploy_test

import (
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// proxy is a program that stands before an edge, and how it is started with its
// file of this folder.
type proxy struct {
	program string
	file    string
	// edge and listen are what the file has for the edge's address and its own.
	edge, listen string
	more         func(t *testing.T) []string // further replacements
	args         func(file string) []string
}

var proxies = map[string]proxy{
	"nginx": {
		program: "nginx", file: "proxy/nginx.conf", edge: "127.0.0.1:8080", listen: "127.0.0.1:8443",
		more: func(t *testing.T) []string {
			return []string{"pid /run/nginx-rccs.pid;", "pid " + t.TempDir() + "/pid;"}
		},
		args: func(file string) []string { return []string{"-c", file, "-g", "daemon off; error_log stderr;"} },
	},
	"caddy": {
		program: "caddy", file: "proxy/Caddyfile", edge: "127.0.0.1:8080", listen: "127.0.0.1:8443",
		args: func(file string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} },
	},
	"haproxy": {
		program: "haproxy", file: "proxy/haproxy.cfg", edge: "127.0.0.1:8080", listen: "127.0.0.1:8443",
		// A test may not open so many files.
		more: func(*testing.T) []string { return []string{"maxconn 100000", "maxconn 1000"} },
		args: func(file string) []string { return []string{"-db", "-f", file} },
	},
}

// A device connects through the proxy, gets its message, and counts for its own
// address and not for the proxy's.
func TestADeviceConnectsThroughAProxy(t *testing.T) {
	t.Parallel()
	for name, p := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := need.Program(t, p.program, "/usr/sbin/"+p.program)
			s := serve(t, "--trusted-proxy", "127.0.0.1/32", "--max-address-connections", "1")
			at := "127.0.0.1:" + freePort(t)
			replace := []string{p.edge, s.devices, p.listen, at}
			if p.more != nil {
				replace = append(replace, p.more(t)...)
			}
			start(t, path, p.args(configured(t, p.file, replace...))...)
			testkit.Eventually(t, "the edge is ready through the proxy", func() bool {
				return get(t, "http://"+at+"/readyz") == 200
			})
			command(t, "send", "alice/phone", `{"n":1}`, "--data", s.data, "--server", "nats://"+s.nats)
			got := command(t, "connect", "alice/phone", "--data", s.data, "--url", "ws://"+at, "--count", "1", "--timeout", "30s")
			if !strings.Contains(got, `{"n":1}`) {
				t.Errorf("connect printed %q", got)
			}
		})
	}
}
