package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Name is a device of a user.
type Name struct{ User, Device string }

// String is the name as commands take it.
func (n Name) String() string { return n.User + "/" + n.Device }

// Account is what a device connects with.
type Account struct {
	Name  Name
	Token string // bearer
}

// Target is an installation.
type Target struct {
	// URL is where it takes WebSockets. Needed.
	URL string
	// TLS is how a wss URL is connected to. nil: as the system has it.
	TLS *tls.Config
	// Accounts are the devices that may be used; [Needs] says how many a
	// scenario takes. Nothing else may be using them.
	Accounts []Account
	// Forget has devices removed at the end, with their inboxes.
	Forget bool
	// Relay says that the server only hands on what it gets: it is told in the
	// query who a device is and whom its frames are for, and registers nobody.
	Relay bool
	// Memory is what the server holds, in bytes, when it has come to rest. nil:
	// it is not known.
	Memory func(ctx context.Context) (int64, error)
}

// Options say how much load there is. Zero values mean the documented default,
// and a scenario does not look at what it does not have.
type Options struct {
	Target Target
	// Devices that connect; in Storm, those that come back. Default 100.
	Devices int
	// Rate is the messages a second, of all together. Default 1,000.
	Rate int
	// Duration of the load. Default 10 s.
	Duration time.Duration
	// Warmup before the duration, of which latency is not counted. Default 1 s.
	Warmup time.Duration
	// Window is how many messages of a pair, or of the topic, are under way.
	// Default 16.
	Window int
	// Missed is how many messages wait for each device of Storm. Default 5.
	Missed int
	// Stopped is how many receivers of Slow stop reading. Default a tenth of
	// them, at least one.
	Stopped int
	// Bytes is the size of a payload. Default 256, at least 128.
	Bytes int
	// AckEach has receivers acknowledge each message by itself. Otherwise they do
	// so once for all that one read brought, as SDKs do.
	AckEach bool
	// Receipts has senders ask to be told that each message was delivered.
	Receipts bool
	// Batch has devices ask for arrays of envelopes.
	Batch bool
	// Connecting is how many devices connect at a time. Default 256 in Storm,
	// else 32.
	Connecting int
	// Heartbeat is how often devices ask to be pinged; 0: as often as the server
	// does by itself.
	Heartbeat time.Duration
	// Patience is how long is waited when nothing arrives any more. Default
	// 20 s.
	Patience time.Duration
	// Progress, if set, is told several times a second how far the scenario is,
	// never twice at once.
	Progress func(Progress)
}

// Progress is how far a scenario is.
type Progress struct {
	Phase     string
	Done, All int           // All 0: not known
	Rate      float64       // messages that arrived, a second, of late
	P99       time.Duration // latency so far; 0: none yet
}

// Smallest and largest of what can be asked for.
const (
	MinBytes  = 128
	MaxBytes  = 512 << 10
	MaxRate   = 1_000_000
	MaxWindow = 4096
	MaxMissed = 10_000 // what an inbox holds
)

func fill[T int | time.Duration](value *T, def T) {
	if *value == 0 {
		*value = def
	}
}

func (o *Options) defaults(scenario string) {
	fill(&o.Devices, 100)
	fill(&o.Rate, 1000)
	fill(&o.Duration, 10*time.Second)
	fill(&o.Warmup, time.Second)
	fill(&o.Window, 16)
	fill(&o.Missed, 5)
	fill(&o.Bytes, 256)
	fill(&o.Patience, 20*time.Second)
	if scenario == "storm" {
		fill(&o.Connecting, 256)
	}
	fill(&o.Connecting, 32)
	if scenario == "slow" {
		fill(&o.Stopped, max(o.Devices/20, 1))
	}
}

// complete puts in the defaults, and checks.
func (o *Options) complete(scenario string) error {
	o.defaults(scenario)
	if o.Target.URL == "" {
		return errors.New("load: URL is needed")
	}
	if err := o.check(scenario); err != nil {
		return err
	}
	if need := Needs(scenario, o.Devices); len(o.Target.Accounts) < need {
		return fmt.Errorf("load: %d tokens are there, %s with %d devices needs %d", len(o.Target.Accounts), scenario, o.Devices, need)
	}
	return nil
}

// Check reports whether a scenario could run with the options, whatever its
// target.
func Check(scenario string, o Options) error {
	o.defaults(scenario)
	return o.check(scenario)
}

func (o *Options) check(scenario string) error {
	switch {
	case o.Devices < 2:
		return fmt.Errorf("load: %d devices: want 2 or more", o.Devices)
	case o.Rate < 1 || o.Rate > MaxRate:
		return fmt.Errorf("load: %d messages a second: want 1 to %d", o.Rate, MaxRate)
	case o.Duration < 0 || o.Warmup < 0:
		return errors.New("load: want a duration above 0")
	case o.Window < 1 || o.Window > MaxWindow:
		return fmt.Errorf("load: %d messages under way: want 1 to %d", o.Window, MaxWindow)
	case o.Missed < 1 || o.Missed > MaxMissed:
		return fmt.Errorf("load: %d missed messages: want 1 to %d, which is what an inbox holds", o.Missed, MaxMissed)
	case o.Bytes < MinBytes || o.Bytes > MaxBytes:
		return fmt.Errorf("load: payloads of %d bytes: want %d to %d", o.Bytes, MinBytes, MaxBytes)
	case scenario == "slow" && (o.Stopped < 1 || o.Stopped >= o.Devices/2):
		return fmt.Errorf("load: %d devices that stop reading, of %d that receive: want at least one, and at least one that reads", o.Stopped, o.Devices/2)
	case o.Connecting < 1:
		return fmt.Errorf("load: %d connecting at a time: want 1 or more", o.Connecting)
	}
	return checkOpenFiles(o.Devices + spareFiles)
}

// Needs is how many accounts a scenario takes for a number of devices. Each
// two of them, from the first, belong to one user.
func Needs(scenario string, devices int) int {
	switch scenario {
	case "storm": // each has one that fills its inbox; and the probe
		return 2*devices + 2
	case "fanout": // and who publishes
		return devices + 1
	}
	return devices - devices%2
}

// spareFiles are open beside the devices' sockets.
const spareFiles = 200

// checkOpenFiles says before the start what would fail in the middle.
func checkOpenFiles(need int) error {
	limit, known := openFiles()
	if !known || uint64(need) <= limit { //nolint:gosec // it is positive
		return nil
	}
	return fmt.Errorf("load: %d open files are needed, one for each connection, and this process may have %d: "+
		"use at most %d devices, raise the limit (ulimit -n), or run several at once with devices of their own",
		need, limit, max(int(limit)-spareFiles, 0)) //nolint:gosec // a limit of files fits
}
