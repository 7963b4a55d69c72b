package backbone

import (
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// A nats.conf may open listeners at which RCCS's credentials count for nothing.
func TestListenersThatTakeAnybodyAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		conf string
		want []string
	}{
		{`cluster { name: c, listen: "0.0.0.0:6222" }`, []string{"cluster 0.0.0.0:6222"}},
		{`cluster { name: c, listen: "10.1.2.3:6222" }`, []string{"cluster 10.1.2.3:6222"}},
		{`cluster { name: c, listen: "127.0.0.1:6222" }`, nil},
		{`cluster { name: c, listen: "[::1]:6222" }`, nil},
		{`cluster { name: c, listen: "0.0.0.0:6222", authorization { user: s, password: p } }`, nil},
		{`gateway { name: g, listen: "0.0.0.0:7222" }`, []string{"gateway 0.0.0.0:7222"}},
		{`gateway { name: g, listen: "0.0.0.0:7222", authorization { user: s, password: p } }`, nil},
		{"http: 0.0.0.0:8222", []string{"http 0.0.0.0:8222"}},
		{"https: 10.1.2.3:8222", []string{"https 10.1.2.3:8222"}},
		{"http: localhost:8222", nil},
		// Here credentials count.
		{`leafnodes { listen: "0.0.0.0:7422" }`, nil},
		{`mqtt { listen: "0.0.0.0:1883" }`, nil},
		{`websocket { listen: "0.0.0.0:8080", no_tls: true }`, nil},
	} {
		var opts server.Options
		if err := opts.ProcessConfigString(c.conf); err != nil {
			t.Errorf("%s: %v", c.conf, err)
			continue
		}
		if got := openListeners(&opts); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.conf, got, c.want)
		}
	}
}

// The monitoring and profiles ask nobody for a credential: other machines reach the
// former only where nats.conf names an address, and the latter nowhere.
func TestMonitoringIsForThisMachineUnlessAnAddressIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ conf, host string }{
		{"http: 8222", "127.0.0.1"},
		{"https: 8222", "127.0.0.1"},
		{"http: 0.0.0.0:8222", "0.0.0.0"},
		{"http: 10.1.2.3:8222", "10.1.2.3"},
	} {
		opts, ignored, err := Options{Config: []byte(c.conf + "\nprof_port: 6060\n"), Listen: "0.0.0.0:4222"}.parse()
		if err != nil {
			t.Errorf("%s: %v", c.conf, err)
			continue
		}
		if opts.HTTPHost != c.host || max(opts.HTTPPort, opts.HTTPSPort) != 8222 {
			t.Errorf("%s: monitoring at %s, port %d or %d, want %s", c.conf, opts.HTTPHost, opts.HTTPPort, opts.HTTPSPort, c.host)
		}
		if opts.ProfPort != 0 || !slices.Contains(ignored, "prof_port") {
			t.Errorf("%s: profiles at port %d, and %q are said to have no effect", c.conf, opts.ProfPort, ignored)
		}
	}
}
