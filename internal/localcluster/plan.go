package localcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/rccs-io/rccs/auth"
)

// Plan says what the cluster is. Ports count up from the first of each kind.
type Plan struct {
	// Dir holds a directory a server. Needed.
	Dir string
	// Config is the text of a nats.conf, to which each server's cluster block is
	// added.
	Config []byte
	// Servers and Edges are how many there are; at least 3 and 1.
	Servers, Edges int
	// NATS, Routes, Devices and Admin are the first ports, on the loopback
	// address; 0 takes free ones.
	NATS, Routes, Devices, Admin int
	// RouteTo, if set, gives the address at which one server reaches another,
	// counted from 0, instead of the other's own.
	RouteTo func(from, to int, address string) string
}

// Process is one to run: rccs with these arguments.
type Process struct {
	Name string
	Args []string
	// Addresses of what it listens on; empty: nothing of the kind.
	NATS, Devices, Admin string
}

func (p *Plan) validate() error {
	switch {
	case p.Dir == "":
		return errors.New("localcluster: Dir is needed")
	case p.Servers < 3 || p.Servers > 5:
		return fmt.Errorf("localcluster: %d servers: want 3 to 5, each message is on three", p.Servers)
	case p.Edges < 1 || p.Edges > 16:
		return fmt.Errorf("localcluster: %d edges: want 1 to 16", p.Edges)
	}
	return nil
}

// Processes lays out Dir, with keys that all share, and says what is to run,
// servers first. A directory that is laid out already is used again, with its
// messages.
func (p *Plan) Processes() ([]Process, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	listen, err := p.ports()
	if err != nil {
		return nil, err
	}
	first := p.data(0)
	if _, err := auth.OpenKeystore(first); err != nil {
		return nil, err
	}
	var all []Process
	for n := range p.Servers {
		if n > 0 {
			if err := shareKeys(first, p.data(n)); err != nil {
				return nil, fmt.Errorf("localcluster: copy the keys: %w", err)
			}
		}
		conf := filepath.Join(p.Dir, fmt.Sprintf("server-%d.conf", n+1))
		if err := os.WriteFile(conf, p.config(n, listen.routes), 0o600); err != nil {
			return nil, fmt.Errorf("localcluster: %w", err)
		}
		all = append(all, Process{
			Name: fmt.Sprint("server-", n+1), NATS: listen.nats[n], Admin: listen.admin[n],
			Args: []string{
				"serve", "--data", p.data(n), "--config", conf, "--listen", "", "--nats-listen", listen.nats[n], "--admin-listen", listen.admin[n],
			},
		})
	}
	var urls []string
	for _, address := range listen.nats {
		urls = append(urls, "nats://"+address)
	}
	for n := range p.Edges {
		name, admin := fmt.Sprint("edge-", n+1), listen.admin[p.Servers+n]
		all = append(all, Process{
			Name: name, Devices: listen.devices[n], Admin: admin,
			Args: []string{
				"edge", "--data", first, "--server", strings.Join(urls, ","), "--name", name, "--listen", listen.devices[n], "--admin-listen", admin,
				"--trusted-proxy", "127.0.0.1", // one address is all devices here
			},
		})
	}
	return all, nil
}

// Data is the directory whose keys make credentials for the cluster.
func (p *Plan) Data() string { return p.data(0) }

func (p *Plan) data(n int) string { return filepath.Join(p.Dir, fmt.Sprint("server-", n+1)) }

// nowhere is an address where nobody listens.
const nowhere = "127.0.0.1:1"

// config is the nats.conf of one server.
func (p *Plan) config(n int, routes []string) []byte {
	var to []string
	for i, address := range routes {
		if i == n {
			continue
		}
		if p.RouteTo != nil {
			address = p.RouteTo(n, i, address)
		}
		to = append(to, "nats://"+address)
	}
	advertise := routes[n]
	if p.RouteTo != nil {
		advertise = nowhere // or servers would tell each other the way around
	}
	return fmt.Appendf(append([]byte(nil), p.Config...), `
server_name: "server-%d"
cluster {
  name: rccs
  listen: "%s"
  advertise: "%s"
  routes: [ "%s" ]
  no_advertise: true
}
`, n+1, routes[n], advertise, strings.Join(to, `", "`))
}

type addresses struct{ nats, routes, devices, admin []string }

// ports gives each process its addresses.
func (p *Plan) ports() (a addresses, err error) {
	for _, kind := range []struct {
		to       *[]string
		first, n int
	}{{&a.nats, p.NATS, p.Servers}, {&a.routes, p.Routes, p.Servers}, {&a.devices, p.Devices, p.Edges}, {&a.admin, p.Admin, p.Servers + p.Edges}} {
		for i := range kind.n {
			port := kind.first + i
			if kind.first == 0 {
				if port, err = FreePort(); err != nil {
					return a, err
				}
			}
			*kind.to = append(*kind.to, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		}
	}
	return a, nil
}

// Free ports are taken from below those that systems give to outgoing
// connections (RFC 6335 has these at the top, Linux from 32,768): one of those
// could take the port until the process listens on it, or while it is down.
const (
	firstFree = 10_000
	lastFree  = 32_767
)

// given are the ports that FreePort has given in this process, which may not be
// listened on yet.
var given sync.Map

// FreePort is a port that nobody listens on now.
func FreePort() (int, error) {
	for range 100 {
		port := firstFree + rand.IntN(lastFree-firstFree+1) //nolint:gosec // any free port will do
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // somebody does
		}
		_ = l.Close()
		if _, before := given.LoadOrStore(port, struct{}{}); !before {
			return port, nil
		}
	}
	return 0, fmt.Errorf("localcluster: no free port was found from %d to %d: say which to use", firstFree, lastFree)
}

// shareKeys copies the keys of one data directory to another that has none.
func shareKeys(from, to string) error {
	source, target := filepath.Join(from, "keys"), filepath.Join(to, "keys")
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	part := target + ".part" // so that a copy which is cut short is begun again
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o700)); err != nil {
		return err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(source, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(part, e.Name()), data, 0o600); err != nil { //nolint:gosec // the names are those that the source directory has
			return err
		}
	}
	return os.Rename(part, target)
}
