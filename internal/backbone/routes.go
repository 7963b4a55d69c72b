package backbone

import (
	"crypto/tls"
	"net/url"

	"github.com/nats-io/nats-server/v2/server"
)

// routeUser is the name of the servers of an installation to each other.
const routeUser = "rccs"

// protectServers keeps whoever is no server of the installation from the listeners
// for servers, where RCCS's credentials count for nothing.
func (o Options) protectServers(opts *server.Options) {
	if o.RouteSecret == "" {
		return
	}
	o.protectRoutes(opts)
	o.protectGateway(opts)
}

// protectGateway has the clusters of an installation ask each other for its secret,
// as the servers of one cluster do. Until a cluster has the secret, nothing comes
// from it: unlike routes, each side sends on the connections that it has opened
// itself.
func (o Options) protectGateway(opts *server.Options) {
	g := &opts.Gateway
	if g.Port == 0 || g.Username != "" || verifies(g.TLSConfig) {
		return
	}
	g.Username, g.Password = routeUser, o.RouteSecret // nats-server also shows it to the others
}

// verifies reports whether clients have to show a certificate.
func verifies(c *tls.Config) bool { return c != nil && c.ClientAuth == tls.RequireAndVerifyClientCert }

// protectRoutes has the servers of a cluster ask each other for the installation's
// secret: whoever can open a route has all tenants, and RCCS's credentials count
// for nothing there. A cluster block that asks for something itself stays as it
// is. The servers that have the secret also connect to those that ask for none,
// such as one of an earlier version, so that a cluster can be upgraded one server
// after the other.
func (o Options) protectRoutes(opts *server.Options) {
	c := &opts.Cluster
	if c.Port == 0 || c.Username != "" || verifies(c.TLSConfig) {
		return
	}
	c.Username, c.Password = routeUser, o.RouteSecret
	for n, route := range opts.Routes {
		if route.User == nil {
			to := *route
			to.User = url.UserPassword(routeUser, o.RouteSecret)
			opts.Routes[n] = &to
		}
	}
}
