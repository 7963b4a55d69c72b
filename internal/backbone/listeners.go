package backbone

import (
	"crypto/tls"
	"net"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// openListeners are those of the nats.conf at which who is on another machine is
// asked for nothing: as a server of the cluster he would have all tenants, and at
// the monitoring he sees who is connected. RCCS's own credentials are for clients,
// and hold nobody off there.
func openListeners(opts *server.Options) []string {
	var open []string
	add := func(block, host string, port int, closed bool) {
		if port != 0 && !closed && !isLoopback(host) {
			open = append(open, block+" "+net.JoinHostPort(host, strconv.Itoa(port)))
		}
	}
	verified := func(c *tls.Config) bool { return c != nil && c.ClientAuth == tls.RequireAndVerifyClientCert }
	add("cluster", opts.Cluster.Host, opts.Cluster.Port, opts.Cluster.Username != "" || verified(opts.Cluster.TLSConfig))
	add("gateway", opts.Gateway.Host, opts.Gateway.Port, opts.Gateway.Username != "" || verified(opts.Gateway.TLSConfig))
	add("http", opts.HTTPHost, opts.HTTPPort, false)
	add("https", opts.HTTPHost, opts.HTTPSPort, verified(opts.TLSConfig))
	add("prof_port", opts.HTTPHost, opts.ProfPort, false)
	return open
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
