package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/subjects"
)

// A device may have a few connections of plain NATS. NATS cannot bound that in a
// credential, so they are counted from what the servers tell of those that come
// and go, and the newest are ended. Every node of a cluster hears of all and does
// so; to end one twice does no harm.

const (
	// DeviceConnections is how many connections of plain NATS a device may have.
	DeviceConnections = 8
	// connectionEvents bounds the events that wait to be looked at.
	connectionEvents = 65_536
	// askServer bounds the wait for a server's answer.
	askServer = 2 * time.Second
	// askAgain is how often a device is looked at of which a server has not said
	// what became of its connections.
	askAgain = time.Second
)

// natsConnection is one of a device.
type natsConnection struct {
	server string
	id     uint64
	start  time.Time
}

// holder is a device of an account.
type holder struct{ account, device string }

// connections counts those of devices.
type connections struct {
	nc    *nats.Conn
	log   *slog.Logger
	ended prometheus.Counter
	most  int

	events chan *nats.Msg
	quit   chan struct{}
	wg     sync.WaitGroup

	// Owned by run.
	open   map[holder][]natsConnection
	unsure map[holder]bool // may have too many: a server has not answered
}

// startConnections returns when it hears of connections. nc is of the system
// account, and is closed at the end.
func startConnections(nc *nats.Conn, registry prometheus.Registerer, log *slog.Logger) (*connections, error) {
	c := &connections{
		nc: nc, log: log, most: DeviceConnections,
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rccs_nats_connections_ended_total", Help: "Connections of devices on plain NATS ended because the device had too many.",
		}),
		events: make(chan *nats.Msg, connectionEvents), quit: make(chan struct{}),
		open: make(map[holder][]natsConnection), unsure: make(map[holder]bool),
	}
	registry.MustRegister(c.ended)
	for _, subject := range []string{"$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT"} {
		if _, err := nc.ChanSubscribe(subject, c.events); err != nil {
			return nil, err
		}
	}
	if err := nc.FlushTimeout(startTimeout); err != nil {
		return nil, err
	}
	c.wg.Go(c.run)
	return c, nil
}

func (c *connections) stop(context.Context) error {
	close(c.quit)
	c.nc.Close() // ends what run waits for
	c.wg.Wait()
	return nil
}

func (c *connections) run() {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		select {
		case <-c.quit:
			return
		case m := <-c.events:
			c.onEvent(m.Data)
		case <-again.C:
			for h := range c.unsure {
				c.enforceLimit(h, c.open[h])
			}
		}
	}
}

// connectionEvent is what is read of an event of a server.
type connectionEvent struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID      uint64    `json:"id"`
		Account string    `json:"acc"`
		JWT     string    `json:"jwt"`
		Start   time.Time `json:"start"`
		Stop    time.Time `json:"stop"`
	} `json:"client"`
}

// parseConnection reads an event; not ok where it is not about a device. The
// server has checked the JWT before it told of it.
func parseConnection(data []byte) (h holder, one natsConnection, gone, ok bool) {
	var e connectionEvent
	if json.Unmarshal(data, &e) != nil || e.Client.JWT == "" {
		return h, one, false, false
	}
	claims, err := jwt.DecodeUserClaims(e.Client.JWT)
	if err != nil {
		return h, one, false, false
	}
	if _, err := subjects.ParseAddress(claims.Name); err != nil {
		return h, one, false, false // a service, or a part of RCCS
	}
	return holder{e.Client.Account, claims.Name}, natsConnection{e.Server.ID, e.Client.ID, e.Client.Start}, !e.Client.Stop.IsZero(), true
}

// onEvent counts a connection that came or went.
func (c *connections) onEvent(data []byte) {
	h, one, gone, ok := parseConnection(data)
	if !ok {
		return
	}
	same := func(o natsConnection) bool { return o.server == one.server && o.id == one.id }
	all := slices.DeleteFunc(c.open[h], same)
	if !gone {
		all = append(all, one)
	}
	if c.unsure[h] { // it is looked at soon, however many come
		c.open[h] = all
		return
	}
	c.enforceLimit(h, all)
}

// enforceLimit ends connections of a device that has more than it may.
func (c *connections) enforceLimit(h holder, all []natsConnection) {
	sure := true
	if len(all) > c.most {
		all, sure = c.endNewest(h, all)
	}
	if sure {
		delete(c.unsure, h)
	} else {
		c.unsure[h] = true
	}
	if len(all) > 0 {
		c.open[h] = all
	} else {
		delete(c.open, h)
	}
}

// endNewest closes the newest connections of a device that has too many, of those that
// servers say are there. What a server does not answer about counts on, and then
// the result is not sure.
func (c *connections) endNewest(h holder, all []natsConnection) (left []natsConnection, sure bool) {
	lives := make([]life, len(all))
	var wg sync.WaitGroup
	for n, o := range all {
		wg.Go(func() { lives[n] = c.probe(o) })
	}
	wg.Wait()
	var there []natsConnection
	for n, o := range all {
		switch lives[n] {
		case alive:
			there = append(there, o)
		case unknown:
			left = append(left, o)
		case gone:
		}
	}
	slices.SortStableFunc(there, func(a, b natsConnection) int { return a.start.Compare(b.start) })
	for ; len(there) > c.most; there = there[:len(there)-1] {
		last := there[len(there)-1]
		if _, err := c.ask(last, "KICK"); err != nil {
			c.log.Warn("a connection of a device that has too many is not ended yet, trying again", "device", h.device, "err", err)
			left = append(left, last)
			continue
		}
		c.ended.Inc()
		c.log.Info("a device has too many connections of plain NATS: the newest was ended", "device", h.device, "limit", c.most)
	}
	left = append(there, left...)
	return left, len(left) <= c.most
}

// life says whether a connection is there, as far as is known.
type life uint8

const (
	unknown life = iota // its server does not answer in time
	alive
	gone // its server says so, or is gone itself
)

// probe asks a server whether it has a connection. Only where nobody is there to
// answer is the server gone: one that is silent may be slow.
func (c *connections) probe(o natsConnection) life {
	answer, err := c.ask(o, "CONNZ")
	if errors.Is(err, nats.ErrNoResponders) {
		return gone
	}
	var found struct {
		Data *struct {
			Connections []struct{} `json:"connections"`
		} `json:"data"`
	}
	switch {
	case err != nil || json.Unmarshal(answer, &found) != nil || found.Data == nil:
		return unknown
	case len(found.Data.Connections) == 0:
		return gone
	}
	return alive
}

// ask asks a server about a connection.
func (c *connections) ask(o natsConnection, what string) ([]byte, error) {
	body, err := json.Marshal(map[string]uint64{"cid": o.id})
	if err != nil {
		return nil, err
	}
	answer, err := c.nc.Request("$SYS.REQ.SERVER."+o.server+"."+what, body, askServer)
	if err != nil {
		return nil, err
	}
	return answer.Data, nil
}
