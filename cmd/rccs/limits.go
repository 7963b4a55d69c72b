package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/wire"
)

// limitFlags bound what devices may cost an edge.
type limitFlags struct {
	messageBytes, frameBytes, registerBytes, topics      count
	deliveries                                           count
	connections, addressConnections, addressAttempts     count
	unauthenticated, registrations                       count
	deviceMessages, deviceBytes, userMessages, userBytes count
	deviceShare, userShare, later, up, topicMessages     count
	registerWithin                                       within
	delay                                                duration
	proxies                                              []netip.Prefix
}

func (f *limitFlags) add(flags *pflag.FlagSet) {
	for _, c := range []struct {
		to          *count
		name        string
		value, from int // 0 is no bound, where it is allowed
		usage       string
	}{
		{&f.messageBytes, "max-message-bytes", 1 << 20, 1 << 10, "the largest frame of a device; NATS's max_payload must be 65536 more"},
		{&f.frameBytes, "max-frame-bytes", 0, 0, "the largest frame to a device, at least 1024; 0: one and a half times --max-message-bytes"},
		{&f.registerBytes, "max-register-bytes", 64 << 10, 4 << 10, "the largest frame before a device has shown its credential"},
		{&f.topics, "max-topics", 100, 1, "how many topics a connection may be subscribed to"},
		{&f.connections, "max-connections", 100_000, 0, "how many connections may be open; 0: no bound"},
		{&f.addressConnections, "max-address-connections", 1000, 0, "how many connections may be open from one address; 0: no bound"},
		{&f.addressAttempts, "address-attempts", 50, 0, "how many connections a second an address may try to open, ten times that in a burst; 0: no bound"},
		{&f.unauthenticated, "max-unauthenticated", 10_000, 0, "how many connections may be open that have shown no credential; 0: no bound"},
		{&f.registrations, "device-registrations", 20, 0, "how often a second one device may register, ten times that in a burst; 0: no bound"},
	} {
		*c.to = count{n: c.value, from: c.from}
		flags.Var(c.to, c.name, c.usage)
	}
	f.frameBytes.orZero = wire.MinFrame
	f.addRates(flags)
	f.registerWithin = within(10 * time.Second)
	flags.Var(&f.registerWithin, "register-within", "how long a connection may go without a credential")
	flags.Var(&networks{all: &f.proxies}, "trusted-proxy",
		"a `network` such as 10.0.0.0/8, whose peers are believed in X-Forwarded-For and not bounded themselves; may be repeated; none: nobody")
}

// addRates adds the bounds that hold on plain NATS too: of what devices send, of when
// it is due, and of how often it is delivered.
func (f *limitFlags) addRates(flags *pflag.FlagSet) {
	f.delay = duration(wire.MaxDelay)
	flags.Var(&f.delay, "max-delay", "how far ahead the time of a delayed message may lie, such as 30d")
	for _, c := range []struct {
		to          *count
		name, usage string
	}{
		{&f.deviceMessages, "device-messages", "how many messages a second a device may send, twice that in a burst; 0: no bound"},
		{&f.deviceBytes, "device-bytes", "how many bytes of payload a second a device may send; 0: no bound"},
		{&f.userMessages, "user-messages", "how many messages a second the devices of a user may send, on one edge; 0: no bound"},
		{&f.userBytes, "user-bytes", "how many bytes of payload a second the devices of a user may send, on one edge; 0: no bound"},
		{&f.deliveries, "max-deliveries", "how many connections, or fetches on plain NATS, a device may leave a message unacknowledged on before it is rejected; 0: no bound"},
	} {
		flags.Var(c.to, c.name, c.usage)
	}
	for _, c := range []struct {
		to    *count
		name  string
		value int
		usage string
		most  int
	}{
		{&f.deviceShare, "device-share", 10, "how many percent of the tenant's store one device may fill, with each kind of message; 0: no bound", 100},
		{&f.userShare, "user-share", 25, "how many percent of the tenant's store the devices of a user may fill, with each kind of message; 0: no bound", 100},
		{&f.later, "later-limit", 10_000, "how many delayed messages may wait for a device, ten times that for a user; 0: no bound", maxCount},
		{&f.up, "up-limit", 1_000_000, "how many messages of a device to services may be stored, ten times that of a user; 0: no bound", maxCount},
		{&f.topicMessages, "topic-limit", 1_000_000, "how many messages of topics by one device may be stored, ten times that of a user; 0: no bound", maxCount},
	} {
		*c.to = count{n: c.value, most: c.most}
		flags.Var(c.to, c.name, c.usage)
	}
}

// inboxMessages is how many messages an inbox may store for each that may be
// unacknowledged: acknowledged ones stay stored for a while.
const inboxMessages = 100

// minInboxBytes is the least bound of a device's inbox. In a small store it is
// more than the device's share.
const minInboxBytes = 16 << 20

// shares returns the bounds of what each device and user may have stored.
func (f *limitFlags) shares(inboxLimit int) share.Bounds {
	return share.Bounds{
		DevicePercent: f.deviceShare.n, UserPercent: f.userShare.n, MinInboxBytes: minInboxBytes,
		Inbox: inboxMessages * inboxLimit, Later: f.later.n, Up: f.up.n, Topic: f.topicMessages.n,
	}
}

func (f *limitFlags) options(inboxLimit limit) node.Limits {
	return node.Limits{
		Shares:       f.shares(int(inboxLimit)),
		MessageBytes: f.messageBytes.n, FrameBytes: f.frameBytes.n, Deliveries: f.deliveries.n, RegisterBytes: f.registerBytes.n, Topics: f.topics.n, RegisterWithin: time.Duration(f.registerWithin), Delay: time.Duration(f.delay),
		Limits: edge.Limits{
			Connections: f.connections.n, AddressConnections: f.addressConnections.n, AddressAttempts: f.addressAttempts.n,
			Unauthenticated: f.unauthenticated.n, Registrations: f.registrations.n,
			Rates:   send.Rates{DeviceMessages: f.deviceMessages.n, DeviceBytes: f.deviceBytes.n, UserMessages: f.userMessages.n, UserBytes: f.userBytes.n},
			Proxies: f.proxies,
		},
	}
}

// count is a flag that is a number, not below a smallest one, nor above a
// largest one if that is not 0. With orZero it is 0 or not below that.
type count struct{ n, from, most, orZero int }

// maxCount is more than any machine serves.
const maxCount = 1 << 30

// String implements pflag.Value.
func (c *count) String() string { return strconv.Itoa(c.n) }

// Type implements pflag.Value.
func (*count) Type() string { return "number" }

// Set implements pflag.Value.
func (c *count) Set(s string) error {
	most := cmp.Or(c.most, maxCount)
	n, err := parseNumber(s, c.from, most)
	if err != nil {
		return err
	}
	if n > 0 && n < c.orZero {
		return fmt.Errorf("want 0, or a number from %d to %d", c.orZero, most)
	}
	c.n = n
	return nil
}

// bounded is a flag that is a number within bounds.
type bounded struct {
	to         *int
	from, most int
}

// between is a flag that sets a number, now n, to one from a smallest to a
// largest one.
func between(to *int, n, from, most int) *bounded {
	*to = n
	return &bounded{to, from, most}
}

// String implements pflag.Value.
func (b *bounded) String() string {
	if b.to == nil {
		return "0"
	}
	return strconv.Itoa(*b.to)
}

// Type implements pflag.Value.
func (*bounded) Type() string { return "number" }

// Set implements pflag.Value.
func (b *bounded) Set(s string) error {
	n, err := parseNumber(s, b.from, b.most)
	if err == nil {
		*b.to = n
	}
	return err
}

// parseNumber reads a number within bounds.
func parseNumber(s string, from, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < from || n > most {
		return 0, fmt.Errorf("want a number from %d to %d", from, most)
	}
	return n, nil
}

// within is a time limit.
type within time.Duration

// String implements pflag.Value.
func (w *within) String() string { return time.Duration(*w).String() }

// Type implements pflag.Value.
func (*within) Type() string { return "duration" }

// Set implements pflag.Value.
func (w *within) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return errors.New("want a duration such as 10s")
	}
	*w = within(d)
	return nil
}

// networks is a list of networks.
type networks struct{ all *[]netip.Prefix }

// String implements pflag.Value.
func (n *networks) String() string {
	if n.all == nil {
		return "" // the zero value, which pflag compares with
	}
	if len(*n.all) == 0 {
		return "none"
	}
	var text []string
	for _, p := range *n.all {
		text = append(text, p.String())
	}
	return strings.Join(text, ",")
}

// Type implements pflag.Value.
func (*networks) Type() string { return "string" }

// Set implements pflag.Value.
func (n *networks) Set(s string) error {
	var list []netip.Prefix
	for text := range strings.SplitSeq(s, ",") {
		if text == "none" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if a, e := netip.ParseAddr(text); e == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return errors.New("want a network such as 10.0.0.0/8, an address, or none")
		}
		list = append(list, p.Masked())
	}
	*n.all = append(*n.all, list...)
	return nil
}
