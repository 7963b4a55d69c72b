package backbone

import (
	"crypto/tls"
	"net/url"

	"github.com/nats-io/nats-server/v2/server"
)

// routeUser is the name of the servers of an installation to each other.
const routeUser = "rccs"

// protectRoutes has the servers of a cluster ask each other for the installation's
// secret: whoever can open a route has all tenants, and RCCS's credentials count
// for nothing there. A cluster block that asks for something itself stays as it
// is. The servers that have the secret also connect to those that ask for none,
// such as one of an earlier version, so that a cluster can be upgraded one server
// after the other.
func (o Options) protectRoutes(opts *server.Options) {
	c := &opts.Cluster
	if o.RouteSecret == "" || c.Port == 0 || c.Username != "" || c.TLSConfig != nil && c.TLSConfig.ClientAuth == tls.RequireAndVerifyClientCert {
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
