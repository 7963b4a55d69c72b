package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// FindLeader tells an operator what to do about a stream without a leader.
const FindLeader = "bring back the servers that are down; a majority is needed"

// WakeLeader tells an operator what to do about a stream that answers nobody.
// leader is the server that led it last; empty: that is not known.
func WakeLeader(nc *nats.Conn, stream, leader string) string {
	if nc.ConnectedClusterName() == "" {
		return "restart the server"
	}
	who := "the server that leads it"
	if leader != "" {
		who = leader + ", which led it last"
	}
	return "restart " + who + ", or, while it runs, have another one lead ('nats stream cluster step-down " + stream + "')"
}

const (
	// SilentFor is for how long a stream may answer nobody before that is told. While a
	// leader is chosen it does so for seconds, on a starved machine for tens of seconds.
	SilentFor = 30 * time.Second
	// SilentAsked is how many questions it must have left without an answer meanwhile.
	SilentAsked = 3
)

// ask looks at all streams. The names of those that answer nobody are apart.
func (d *doctor) ask(ctx context.Context) (list []StreamStatus, silent []string, err error) {
	names := streams()
	all := make([]*jetstream.StreamInfo, len(names))
	err = forEach(ctx, len(names), nil, func(ctx context.Context, i int) (err error) {
		all[i], err = d.askOne(ctx, names[i])
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for i, info := range all {
		if info == nil {
			silent = append(silent, d.t.shard.Stream(names[i]))
			continue
		}
		list = append(list, newStreamStatus(info))
	}
	return list, silent, nil
}

// askOne looks at a stream; nil is one that answers nobody.
func (d *doctor) askOne(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	bound := d.opts.Patience
	if bound <= 0 {
		bound = SilentFor
	}
	for range SilentAsked {
		ask, cancel := context.WithTimeout(ctx, bound/SilentAsked)
		info, err := d.t.info(ask, stream)
		cancel()
		switch {
		case err == nil:
			return info, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !leader.Unanswered(err) && !storeerr.Offline(err):
			return nil, err
		}
	}
	return nil, nil
}

// leads asks all servers who leads a stream that does not answer; empty: none knows,
// or they may not be asked.
func (d *doctor) leads(ctx context.Context, stream string) string {
	if d.t.system == nil || d.account == "" {
		return ""
	}
	nc, err := d.t.system()
	if err != nil {
		return ""
	}
	defer nc.Close()
	body := fmt.Appendf(nil, `{"account":%q,"accounts":true,"streams":true}`, d.account)
	name := ""
	_ = gather(ctx, nc, "$SYS.REQ.SERVER.PING.JSZ", body, func(data []byte) error {
		var z struct {
			Data struct {
				Accounts []struct {
					Streams []struct {
						Name    string `json:"name"`
						Cluster struct {
							Leader string `json:"leader"`
						} `json:"cluster"`
					} `json:"stream_detail"`
				} `json:"account_details"`
			} `json:"data"`
		}
		if json.Unmarshal(data, &z) != nil {
			return nil // it does not know
		}
		for _, a := range z.Data.Accounts {
			for _, s := range a.Streams {
				if s.Name == stream && s.Cluster.Leader != "" {
					name = s.Cluster.Leader
				}
			}
		}
		return nil
	})
	return name
}
