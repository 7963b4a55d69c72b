package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
)

func (d *doctor) server(ctx context.Context, name string) error {
	s, err := d.t.server()
	if err != nil {
		return err
	}
	d.status.Server = s
	var major, minor int
	if n, _ := fmt.Sscanf(s.Version, "%d.%d", &major, &minor); n == 2 && (major < 2 || major == 2 && minor < 12) {
		d.note(name, LevelFail, "nats-server "+s.Version+" has no schedules and atomic batches", "upgrade it to 2.12 or later")
	}
	if s.RTT > rttWarn {
		d.note(name, LevelWarn, "an answer takes "+s.RTT.Round(time.Millisecond).String(), "look at the network to "+s.URL)
	}
	if d.status.Servers, err = d.t.Servers(ctx); err != nil {
		d.note(name, LevelUnknown, err.Error(), "the system account's key is in the data directory: name it with --data")
	}
	d.servers = len(d.status.Servers) > 0
	for _, s := range d.status.Servers {
		if s.SlowConsumers > 0 {
			d.note(name, LevelWarn, fmt.Sprintf("%s has cut %d connections that did not read fast enough", s.Name, s.SlowConsumers),
				"look for edges or services that are overloaded; raise max_pending in nats.conf")
		}
	}
	return nil
}

// permissions looks at the credential: too little makes other checks fail.
func (d *doctor) permissions(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := d.t.nc.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("the server does not tell what this credential may do")
	}
	if err != nil {
		return fmt.Errorf("ops: ask what this credential may do: %w", err)
	}
	var info struct {
		Data struct {
			Account     string `json:"account"`
			Permissions *struct {
				Publish, Subscribe *struct{ Allow, Deny []string }
			} `json:"permissions"`
			Expires time.Duration `json:"expires"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return fmt.Errorf("ops: what this credential may do: %w", err)
	}
	d.account = info.Data.Account
	if p := info.Data.Permissions; p != nil && p.Publish != nil && len(p.Publish.Allow) > 0 && !slices.Contains(p.Publish.Allow, ">") {
		d.note(name, LevelWarn, "the credential may not do all that an operator may", "make one with 'rccs creds part', or name the installation's keys with --data")
	}
	if e := info.Data.Expires; e > 0 && e < expiryWarn {
		d.note(name, LevelWarn, "the credential ends in "+e.Round(time.Second).String(), "make a new one with 'rccs creds part'")
	}
	return nil
}

func (d *doctor) streams(ctx context.Context, name string) error {
	if d.opts.Differences == nil {
		return errors.New("there is no plan to compare with")
	}
	all, err := d.opts.Differences(ctx, d.t.js)
	if err != nil {
		return err
	}
	for _, diff := range all {
		if diff.Missing {
			d.note(name, LevelFail, diff.Stream+" is missing", MakeAnew)
			continue
		}
		d.note(name, LevelWarn, diff.Stream+" differs from the plan: "+strings.Join(diff.Changes, ", "),
			"restart 'rccs serve', which puts back what it can; if it was changed on purpose, note it")
	}
	return nil
}

// replicas looks at leaders, copies, and what the inbox stream takes in.
func (d *doctor) replicas(ctx context.Context, name string) error {
	list, silent, err := d.ask(ctx)
	if err != nil {
		return err
	}
	for _, stream := range silent {
		d.note(name, LevelFail, stream+" answers nobody: nothing can be stored", WakeLeader(d.t.nc, stream, d.leads(ctx, stream)))
	}
	d.status.Streams = list
	for _, s := range d.status.Streams {
		if s.info == nil {
			continue
		}
		if c := s.info.Cluster; c != nil && s.info.Config.Replicas > 1 && c.Leader == "" {
			d.note(name, LevelFail, s.Name+" has no leader: nothing can be stored", FindLeader)
		}
		for _, r := range s.Replicas {
			if what, do := copyFinding(&r); what != "" {
				d.note(name, LevelWarn, s.Name+": the copy on "+r.Name+" "+what, do)
			}
		}
		for _, from := range s.info.Sources {
			if from.Error != nil {
				d.note(name, LevelFail, s.Name+" does not take in from "+from.Name+": "+from.Error.Error(), "delayed messages are not delivered until this is mended: restart the server")
			}
		}
	}
	return nil
}

// copyFinding says what is wrong with a copy of a stream, and what to do; "" is
// nothing. A server that stands still is not offline for NATS: only the leader's
// waiting tells of it.
func copyFinding(r *Replica) (what, do string) {
	switch {
	case r.Offline:
		return "is offline", "start that server, or remove it from the cluster"
	case r.Current:
		return "", ""
	case r.Lag > lagWarn:
		return fmt.Sprintf("is %d messages behind", r.Lag), "look at that server's disk and network"
	case r.Heard > silentWarn:
		return "has not answered its leader for " + r.Heard.Round(time.Second).String(), "look whether that server's process stands still, and at its network; restart it"
	}
	return "", ""
}

func (d *doctor) disk(ctx context.Context, name string) error {
	store, err := d.t.store(ctx)
	if err != nil {
		return err
	}
	d.fill(name, "the tenant's storage", store.Used, store.Limit, "raise the account's limit, or shorten how long messages are kept")
	for _, s := range d.status.Servers {
		d.fill(name, "the store of "+s.Name, s.StoreUsed, s.StoreLimit, "raise max_file_store in nats.conf if the disk has room, or 'rccs inbox purge USER/DEVICE --acknowledged'")
	}
	if d.opts.Free != nil {
		free, err := d.opts.Free()
		if err != nil {
			return err
		}
		for _, s := range d.status.Servers {
			if left := uint64(max(s.StoreLimit, 0)) - min(uint64(max(s.StoreLimit, 0)), s.StoreUsed); len(d.status.Servers) == 1 && left > free {
				d.note(name, LevelWarn, fmt.Sprintf("the disk has %d MiB left, less than the %d MiB that max_file_store still allows", free>>20, left>>20),
					"make room, or lower max_file_store: a full disk stops JetStream until a restart")
			}
		}
	}
	if !d.servers {
		d.note(name, LevelUnknown, "how full the servers' stores are is told to the system account only", "name the installation's keys with --data")
	}
	return nil
}

// fill compares what is used with its limit.
func (d *doctor) fill(check, what string, used uint64, limit int64, fix string) {
	if limit <= 0 {
		return
	}
	percent := used * 100 / uint64(limit)
	level := LevelWarn
	if percent >= storeFail {
		level = LevelFail
	}
	if percent >= storeWarn {
		d.note(check, level, fmt.Sprintf("%s is %d %% full", what, percent), fix)
	}
}

// clock compares this machine's clock with the servers': timestamps, time to
// live and credentials depend on them.
func (d *doctor) clock(ctx context.Context, name string) error {
	sent := time.Now()
	info, err := d.t.info(ctx, layout.StreamInbox)
	if err != nil {
		return err
	}
	if !info.TimeStamp.IsZero() {
		d.skew(name, "the server", info.TimeStamp.Sub(sent.Add(time.Since(sent)/2)))
	}
	for _, s := range d.status.Servers {
		d.skew(name, s.Name, s.Skew)
	}
	return nil
}

func (d *doctor) skew(check, who string, skew time.Duration) {
	if skew.Abs() < skewWarn {
		return
	}
	level := LevelWarn
	if skew.Abs() >= skewFail {
		level = LevelFail
	}
	way := "before"
	if skew < 0 {
		way = "behind"
	}
	d.note(check, level, fmt.Sprintf("the clock of %s is %s %s ours", who, skew.Abs().Round(time.Millisecond), way), "let both keep time by NTP")
}
