package ops

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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
