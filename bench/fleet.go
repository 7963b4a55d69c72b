package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what the devices of a fleet are like. Zero values mean the
// documented default.
type Options struct {
	// URL is where the server takes WebSockets. Needed.
	URL string
	// TLS is how a wss URL is connected to. nil: as the system has it.
	TLS *tls.Config
	// Devices is how many connect: an even number, two to a user. Needed.
	Devices int
	// Tokens has a bearer token for each of [Names](Devices). nil: the server
	// is a relay, which takes names in the query and sends nothing back.
	Tokens map[Name]string
	// AckEach has receivers acknowledge each message by itself. Otherwise they
	// do so once for all that one read brought, as SDKs do.
	AckEach bool
	// Receipts has senders ask to be told that each message was accepted.
	Receipts bool
	// Batch has devices ask for arrays of envelopes.
	Batch bool
	// Patience is how long a load waits, at its end, for messages that were
	// sent and did not arrive. Default 20 s.
	Patience time.Duration
}

// connecting is how many devices connect at a time.
const connecting = 32

// Names are the names of n devices: "left" and "right" of user after user.
func Names(n int) []Name {
	names := make([]Name, n)
	for i := range names {
		names[i] = Name{User: fmt.Sprintf("user%05d", i/2), Device: "left"}
		if i%2 == 1 {
			names[i].Device = "right"
		}
	}
	return names
}

// Fleet is a number of connected devices.
type Fleet struct {
	// Static after Connect.
	opts    Options
	devices []*device
	pairs   []*pair

	wg       sync.WaitGroup
	closing  atomic.Bool
	failed   chan struct{} // closed when err is set
	failOnce sync.Once
	err      error
}

// Connect connects and registers all devices. On an error none stays
// connected.
func Connect(ctx context.Context, opts Options) (*Fleet, error) {
	if opts.Devices < 2 || opts.Devices%2 != 0 {
		return nil, fmt.Errorf("bench: %d devices: want an even number", opts.Devices)
	}
	if opts.Patience <= 0 {
		opts.Patience = 20 * time.Second
	}
	f := &Fleet{opts: opts, devices: make([]*device, opts.Devices), failed: make(chan struct{})}
	if err := f.dialAll(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	run := strconv.FormatInt(time.Now().UnixNano(), 36) // so that no id repeats one of an earlier fleet
	for i := 0; i < opts.Devices; i += 2 {
		p := &pair{fleet: f, sender: f.devices[i], receiver: f.devices[i+1], prefix: run + "-" + strconv.Itoa(i) + "-", want: 1}
		p.receiver.pair = p
		f.pairs = append(f.pairs, p)
	}
	for _, d := range f.devices {
		f.wg.Go(func() { f.fail(d.name, d.read()) })
	}
	return f, nil
}

func (f *Fleet) dialAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, connecting)
	var wg sync.WaitGroup
	for i, name := range Names(f.opts.Devices) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			d, err := f.dial(ctx, name, f.url(name), f.opts.Tokens[name])
			if err != nil {
				cancel(err)
				return
			}
			f.devices[i] = d
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// url is where a device connects. A relay is told in it who the receiver is.
func (f *Fleet) url(name Name) string {
	if f.opts.Tokens != nil {
		return f.opts.URL
	}
	to := Name{User: name.User, Device: "right"}
	return f.opts.URL + "?" + url.Values{"id": {name.String()}, "to": {to.String()}}.Encode()
}

// readBuffer is smaller for many devices, which are there to be idle.
func (f *Fleet) readBuffer() int {
	if f.opts.Devices > 2000 {
		return 1 << 10
	}
	return readBuffer
}

// fail ends what runs. Only the first error counts, and none after Close.
func (f *Fleet) fail(who Name, err error) {
	if err == nil || f.closing.Load() {
		return
	}
	f.failOnce.Do(func() {
		f.err = fmt.Errorf("bench: %s: %w", who, err)
		close(f.failed)
	})
}

// Err is what went wrong so far.
func (f *Fleet) Err() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// Close disconnects all devices and returns what had gone wrong until then.
func (f *Fleet) Close() error {
	err := f.Err()
	f.closing.Store(true)
	for _, d := range f.devices {
		if d != nil {
			_ = d.ws.Close()
		}
	}
	f.wg.Wait()
	return err
}
