package node

import (
	"context"
	"encoding/json"
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

	open map[holder][]natsConnection // owned by run
}

// startConnections returns when it hears of connections. nc is of the system
// account, and is closed at the end.
func startConnections(nc *nats.Conn, registry prometheus.Registerer, log *slog.Logger) (*connections, error) {
	c := &connections{
		nc: nc, log: log, most: DeviceConnections,
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rccs_nats_connections_ended_total", Help: "Connections of devices on plain NATS ended because the device had too many.",
		}),
		events: make(chan *nats.Msg, connectionEvents), quit: make(chan struct{}), open: make(map[holder][]natsConnection),
	}
	registry.MustRegister(c.ended)
	for _, subject := range []string{"$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT"} {
		if _, err := nc.ChanSubscribe(subject, c.events); err != nil {
			return nil, err
		}
	}
	if err := nc.FlushTimeout(askServer); err != nil {
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
	for {
		select {
		case <-c.quit:
			return
		case m := <-c.events:
			c.hear(m.Data)
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

// hear counts a connection that came or went.
func (c *connections) hear(data []byte) {
	h, one, gone, ok := parseConnection(data)
	if !ok {
		return
	}
	same := func(o natsConnection) bool { return o.server == one.server && o.id == one.id }
	all := slices.DeleteFunc(c.open[h], same)
	if !gone {
		all = append(all, one)
	}
	if len(all) > c.most {
		all = c.end(h, all)
	}
	if len(all) == 0 {
		delete(c.open, h)
		return
	}
	c.open[h] = all
}

// end closes the newest connections of a device that has too many. One that a
// server does not have any more, or whose server is gone, does not count.
func (c *connections) end(h holder, all []natsConnection) []natsConnection {
	all = slices.DeleteFunc(all, func(o natsConnection) bool { return !c.alive(o) })
	slices.SortFunc(all, func(a, b natsConnection) int { return a.start.Compare(b.start) })
	for len(all) > c.most {
		last := all[len(all)-1]
		all = all[:len(all)-1]
		if _, err := c.ask(last, "KICK"); err != nil {
			c.log.Warn("a connection of a device that has too many was not ended", "device", h.device, "err", err)
			continue
		}
		c.ended.Inc()
		c.log.Info("a device has too many connections of plain NATS: the newest was ended", "device", h.device, "limit", c.most)
	}
	return all
}

// alive reports whether a server has a connection.
func (c *connections) alive(o natsConnection) bool {
	answer, err := c.ask(o, "CONNZ")
	if err != nil {
		return false
	}
	var found struct {
		Data struct {
			Connections []struct{} `json:"connections"`
		} `json:"data"`
	}
	return json.Unmarshal(answer, &found) == nil && len(found.Data.Connections) > 0
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
