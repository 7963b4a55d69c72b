package main

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/node"
)

// addressesFile is where a running 'rccs serve' writes, in its data directory,
// at which addresses it can be reached. A command that is given --data and no
// address uses those. The file goes at a clean stop; after a kill it stays, and
// most often names what the next start uses again.
const addressesFile = "addresses.json"

// addresses are URLs; "" is a listener that is not there.
type addresses struct {
	Devices string `json:"devices,omitempty"`
	NATS    string `json:"nats,omitempty"`
	Admin   string `json:"admin,omitempty"`
}

// addressesOf are those of a node that runs.
func addressesOf(n *node.Node, t *transportFlags) addresses {
	var a addresses
	if addr := n.Addr(); addr != nil {
		a.Devices = t.scheme("ws", t.tls) + "://" + addr.String()
	}
	if addr := n.AdminAddr(); addr != nil {
		a.Admin = t.scheme("http", t.adminTLS) + "://" + addr.String()
	}
	a.NATS = n.NATSURL()
	return a
}

// reachable names this machine where an address is that of every interface.
func reachable(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	host, port, err := net.SplitHostPort(u.Host)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", port)
	}
	return u.String()
}

// keep writes the addresses into the data directory.
func (a addresses) keep(data string) error {
	text, err := json.Marshal(addresses{Devices: reachable(a.Devices), NATS: reachable(a.NATS), Admin: reachable(a.Admin)})
	if err != nil {
		return err
	}
	path := filepath.Join(data, addressesFile)
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path) // readers see all of it or none
}

// forgetAddresses removes them: nothing listens there any more.
func forgetAddresses(data string) { _ = os.Remove(filepath.Join(data, addressesFile)) }

// readAddresses are those of the installation in a data directory, and none
// where it is not known to run. What is wrong with the directory, the command
// says by itself.
func readAddresses(data string) (a addresses, err error) {
	text, err := os.ReadFile(filepath.Join(data, addressesFile))
	if err != nil {
		return a, nil //nolint:nilerr // as above
	}
	return a, json.Unmarshal(text, &a)
}

// findRunning gives --server and --url, where they were not given, the addresses
// of the installation that --data names. Credentials of a file or a context
// may be another installation's: then the flags keep their values.
func (env *environment) findRunning(cmd *cobra.Command) {
	flags := cmd.Flags()
	data := flags.Lookup("data")
	if data == nil {
		return
	}
	for _, other := range []string{"creds", "context"} {
		if f := flags.Lookup(other); f != nil && f.Changed && f.Value.String() != "" {
			return
		}
	}
	var open []*pflag.Flag
	for _, name := range []string{"server", "url"} {
		if f := flags.Lookup(name); f != nil && !f.Changed && f.DefValue != "" {
			open = append(open, f)
		}
	}
	if len(open) == 0 {
		return
	}
	a, err := readAddresses(data.Value.String())
	if err != nil {
		env.note("%s is not used: %v", filepath.Join(data.Value.String(), addressesFile), err)
		return
	}
	for _, f := range open {
		if found := map[string]string{"server": a.NATS, "url": a.Devices}[f.Name]; found != "" {
			_ = f.Value.Set(found) // a text
		}
	}
}
