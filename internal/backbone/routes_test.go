package backbone_test

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/testkit"
)

// freePort is one of the loopback address that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := localcluster.FreePort()
	must(t, port, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// asServer speaks to a cluster's listener as a server does, and returns what it is
// told after its CONNECT.
func asServer(t *testing.T, address, login string) string {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, testkit.Patience)
	must(t, nc, err)
	defer func() { _ = nc.Close() }()
	if err := nc.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(nc)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "INFO ") {
		t.Fatalf("%s: %q, %v", address, line, err)
	}
	if _, err := fmt.Fprintf(nc, "CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"rogue\",\"cluster\":\"c\"%s}\r\nPING\r\n", login); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "closed"
		}
		if strings.HasPrefix(line, "-ERR") || strings.HasPrefix(line, "PONG") {
			return strings.TrimSpace(line)
		}
	}
}

// ofACluster returns the nats.conf of server n of a cluster of two.
func ofACluster(_ *testing.T, n int, ports [2]string) string {
	return fmt.Sprintf("cluster { name: c, listen: %q, no_advertise: true, routes: [%q, %q] }", ports[n], "nats://"+ports[0], "nats://"+ports[1])
}

// ofGateways returns the nats.conf of server n of two that gateways connect. Each is
// a cluster of its own: otherwise nats-server has no JetStream there.
func ofGateways(t *testing.T, n int, ports [2]string) string {
	t.Helper()
	own := freePort(t)
	return fmt.Sprintf("cluster { name: g%d, listen: %q, routes: [%q] }\n", n, own, "nats://"+own) +
		fmt.Sprintf("gateway { name: g%d, listen: %q, gateways: [{ name: g%d, url: %q }] }", n, ports[n], 1-n, "nats://"+ports[1-n])
}

// linked starts two servers, and returns when what is published at one is heard at
// the other.
func linked(t *testing.T, secrets [2]string, block func(t *testing.T, n int, ports [2]string) string) (ports [2]string) {
	t.Helper()
	authority := newTrust(t)
	for n := range ports {
		ports[n] = freePort(t)
	}
	var conns [2]*nats.Conn
	for n := range ports {
		opts := authority.options(t.TempDir())
		opts.Config = fmt.Appendf(opts.Config, "\nserver_name: s%d\n%s\n", n, block(t, n, ports))
		opts.Listen, opts.RouteSecret = "127.0.0.1:0", secrets[n]
		login, _ := authority.user(t)
		conns[n] = dial(t, start(t, opts), login)
	}
	heard, err := conns[0].SubscribeSync("x")
	must(t, heard, err)
	until(t, "what is published at one server is heard at the other", func() bool {
		if err := conns[1].Publish("x", nil); err != nil {
			t.Fatal(err)
		}
		_, err := heard.NextMsg(10 * time.Millisecond)
		return err == nil
	})
	return ports
}

// Whoever reaches the port of the cluster is no server of it without the
// installation's secret, and servers with the secret find each other.
func TestRoutesAskForTheInstallationsSecret(t *testing.T) {
	t.Parallel()
	ports := linked(t, [2]string{"secret", "secret"}, ofACluster)
	asksForTheSecret(t, ports[0], "")
}

// Nor is it a gateway, which has all tenants too.
func TestGatewaysAskForTheInstallationsSecret(t *testing.T) {
	t.Parallel()
	ports := linked(t, [2]string{"secret", "secret"}, ofGateways)
	asksForTheSecret(t, ports[0], `,"gateway":"g9"`)
}

// asksForTheSecret tries logins at a listener for servers.
func asksForTheSecret(t *testing.T, address, more string) {
	t.Helper()
	for login, want := range map[string]string{
		"":                                  "-ERR 'Authorization Violation'",
		`,"user":"rccs","pass":"guessed"`:   "-ERR 'Authorization Violation'",
		`,"user":"rccs","pass":"secret"`:    "PONG",
		`,"user":"another","pass":"secret"`: "-ERR 'Authorization Violation'",
	} {
		if got := asServer(t, address, more+login); got != want {
			t.Errorf("who says %q is told %s, want %s", login, got, want)
		}
	}
}

// While a cluster is upgraded one server after the other, some do not know of the
// secret yet.
func TestAClusterHoldsWhileSomeServersHaveNoSecret(t *testing.T) {
	t.Parallel()
	for _, secrets := range [][2]string{{"secret", ""}, {"", "secret"}} {
		linked(t, secrets, ofACluster)
	}
}
