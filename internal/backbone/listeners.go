package backbone

import (
	"net"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// openListeners returns the listeners of the nats.conf at which other machines are
// asked for nothing: as a server of the cluster, or by a gateway, they would have all
// tenants, and the monitoring shows who is connected. RCCS's own credentials are for
// clients, and hold nobody off there.
func openListeners(opts *server.Options) []string {
	var open []string
	add := func(block, host string, port int, closed bool) {
		if port != 0 && !closed && !isLoopback(host) {
			open = append(open, block+" "+net.JoinHostPort(host, strconv.Itoa(port)))
		}
	}
	add("cluster", opts.Cluster.Host, opts.Cluster.Port, opts.Cluster.Username != "" || verifies(opts.Cluster.TLSConfig))
	add("gateway", opts.Gateway.Host, opts.Gateway.Port, opts.Gateway.Username != "" || verifies(opts.Gateway.TLSConfig))
	add("http", opts.HTTPHost, opts.HTTPPort, false)
	add("https", opts.HTTPHost, opts.HTTPSPort, verifies(opts.TLSConfig))
	return open
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
