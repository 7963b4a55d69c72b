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
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
)

// Levels of a [Finding], in the order of their weight.
const (
	LevelOK      = "ok"
	LevelUnknown = "unknown" // could not be found out
	LevelWarn    = "warn"    // works, and will not for ever
	LevelFail    = "fail"    // does not work, or loses something
)

// MakeAnew tells an operator what to do about a missing stream.
const MakeAnew = "restart 'rccs serve', which makes it anew, and empty; what was in it is in a backup alone ('rccs restore')"

// Finding is what one check of a [Tenant.Doctor] found.
type Finding struct {
	Check string `json:"check"`
	Level string `json:"level"`
	What  string `json:"what"`
	// Fix says what to do, where there is something.
	Fix string `json:"fix,omitempty"`
}

// Difference is a stream that is not as it should be.
type Difference struct {
	Stream  string
	Missing bool
	Changes []string // for people
}

// DoctorOptions are what the doctor cannot know by itself.
type DoctorOptions struct {
	// Differences compares the streams with the plan; nil: not checked.
	Differences func(ctx context.Context, js jetstream.JetStream) ([]Difference, error)
	// Free says how many bytes the disk of a server on this machine has left;
	// nil: there is none.
	Free func() (uint64, error)
	// Patience is how long a stream may take to answer. Default 30 s.
	Patience time.Duration

	edges func(context.Context) ([]Edge, error) // of all shards, if there are several
}

// What the doctor finds fault with.
const (
	skewWarn, skewFail   = 500 * time.Millisecond, 5 * time.Second
	rttWarn              = 250 * time.Millisecond
	storeWarn, storeFail = 80, 95 // percent of the limit
	leaseLate            = 6 * time.Second
	behindWarn           = 10_000           // unacknowledged messages: the default bound of an inbox
	laneFull             = 80               // percent of a lane's bound
	silentWarn           = 10 * time.Second // a copy answers its leader every second
	ageWarn              = 80               // percent of the age at which messages go
	lagWarn              = 1000             // messages that a replica is behind
	waitWarn             = time.Hour
	expiryWarn           = 24 * time.Hour
)

// doctor is one examination.
type doctor struct {
	t       *Tenant
	opts    *DoctorOptions
	status  Status
	out     []Finding
	servers bool // the system account was asked
	account string
}

// ofTenant are the checks of what is not a shard's. The first shard tells of them. Of
// asked the others need what they find out.
var (
	ofTenant = []string{"server", "permissions", "disk", "clock", "coordinator"}
	asked    = []string{"server", "permissions"}
)

// Doctor finds out what is wrong, and says of each thing what to do. A check
// that cannot be made is a finding, too; the error is that of ctx.
func (t *Tenant) Doctor(ctx context.Context, opts DoctorOptions) ([]Finding, error) {
	if len(t.parts) > 0 {
		return t.doctorOfAll(ctx, opts)
	}
	d := &doctor{t: t, opts: &opts}
	for _, c := range []struct {
		name  string
		check func(ctx context.Context, name string) error
	}{
		{"server", d.server},
		{"permissions", d.permissions},
		{"streams", d.streams},
		{"replicas", d.replicas},
		{"disk", d.disk},
		{"damage", d.damage},
		{"shares", d.shares},
		{"clock", d.clock},
		{"edges", d.edges},
		{"coordinator", d.coordinator},
		{"inboxes", d.inboxes},
		{"routing", d.routing},
		{"undeliverable", d.undeliverable},
	} {
		before, told := len(d.out), t.shard.N() > 0 && slices.Contains(ofTenant, c.name)
		if told && !slices.Contains(asked, c.name) {
			continue
		}
		if err := c.check(ctx, c.name); err != nil {
			if ctx.Err() != nil {
				return d.out, context.Cause(ctx)
			}
			d.note(c.name, LevelUnknown, err.Error(), "mend what is above first")
		} else if len(d.out) == before {
			d.note(c.name, LevelOK, "nothing to find fault with", "")
		}
		if told {
			d.out = d.out[:before]
		}
	}
	return d.out, nil
}

func (d *doctor) note(check, level, what, fix string) {
	d.out = append(d.out, Finding{Check: check, Level: level, What: what, Fix: fix})
}

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

func (d *doctor) edges(ctx context.Context, name string) error {
	var err error
	if d.status.Edges, err = d.t.Edges(ctx); err != nil {
		return err
	}
	if len(d.status.Edges) == 0 {
		if err := d.noEdge(ctx, name); err != nil {
			return err
		}
	}
	if d.opts.edges != nil {
		if d.t.shard.N() > 0 {
			return nil // the first shard tells of all that there are
		}
		if d.status.Edges, err = d.opts.edges(ctx); err != nil {
			return err
		}
	}
	versions := make(map[string]bool)
	for _, e := range d.status.Edges {
		versions[e.Version] = true
		if e.Unready != "" {
			d.note(name, LevelFail, fmt.Sprintf("edge %s cannot serve: %s", e.Name, e.Unready), "look at its log, its load and its connection to NATS")
		}
		if e.Unserved != "" {
			d.note(name, LevelWarn, fmt.Sprintf("edge %s does not serve every tenant: %s", e.Name, e.Unserved),
				"for each tenant that is named: are its streams there, and is the edge's credential still good ('rccs creds part' makes a new one)?")
		}
		if late := time.Since(e.Renewed); late > leaseLate {
			d.note(name, LevelWarn, fmt.Sprintf("edge %s has not renewed its lease for %s", e.Name, late.Round(time.Second)),
				"look at its log, its load and its connection to NATS; its devices are taken for offline when the lease ends")
		}
	}
	if len(versions) > 1 {
		d.note(name, LevelWarn, "edges run different versions", "finish the upgrade; 'rccs edges ls' shows which is which")
	}
	return nil
}

// noEdge tells that no edge serves the shard, or that none runs at all.
func (d *doctor) noEdge(ctx context.Context, name string) error {
	if d.opts.edges != nil {
		if all, err := d.opts.edges(ctx); err != nil {
			return err
		} else if len(all) > 0 {
			d.note(name, LevelWarn, fmt.Sprintf("no edge serves shard %d: the first that one of its devices comes to will", d.t.shard.N()),
				"look again in ten seconds; if it stays so, name the shard with --shards of an edge")
			return nil
		}
	}
	d.note(name, LevelFail, "no edge runs: no device can connect", "start 'rccs serve' or 'rccs edge'")
	return nil
}

func (d *doctor) coordinator(ctx context.Context, name string) error {
	list, err := d.t.coordinators(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		d.note(name, LevelFail, "no coordinator answers: messages of services to several devices wait, and the sessions of dead edges do not end",
			"start 'rccs serve' or 'rccs coordinator'")
	}
	idle := shard.All(d.t.shard.Count())
	for _, c := range list {
		if c.Shards == nil {
			idle = nil
		}
		idle = slices.DeleteFunc(idle, func(s shard.Shard) bool { return slices.Contains(c.Shards, s.N()) })
		if c.Unready != "" {
			d.note(name, LevelFail, fmt.Sprintf("coordinator %s cannot do its work: %s", c.ID, c.Unready), "look at its log, its load and its connection to NATS")
		}
		if c.Unserved > 0 {
			d.note(name, LevelWarn, fmt.Sprintf("coordinator %s does not serve every tenant (%d missing)", c.ID, c.Unserved), "its /readyz and its log say which, and why")
		}
	}
	if len(list) > 0 {
		for _, s := range idle {
			d.note(name, LevelWarn, fmt.Sprintf("no coordinator works shard %d: its messages of services to several devices wait", s.N()),
				"look again in ten seconds; if it stays so, look at the logs of the coordinators")
		}
	}
	return nil
}
