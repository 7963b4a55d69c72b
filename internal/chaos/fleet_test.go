package chaos_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// sendEvery is how often a device sends in each lane to each of its peers.
const sendEvery = 20 * time.Millisecond

// target is an installation that a fleet uses.
type target struct {
	data    string // whose keys make credentials
	devices string // HOST:PORT
	edges   []*proc
}

// fleet is devices that send numbered messages in all lanes, and note what they
// receive. A user has two devices with the SDK, which send to each other, and a
// [listener], to which the first of them sends.
type fleet struct {
	t         *testing.T
	at        target
	ledger    *ledger
	all       []*member
	listeners []*listener

	send sync.WaitGroup
	wg   sync.WaitGroup
	ctx  context.Context // of all that runs
	end  context.CancelFunc
	stop context.CancelFunc // of sending
}

type member struct {
	name string // USER/DEVICE
	c    *client.Client

	mu   sync.Mutex
	lost time.Time     // when the connection ended; zero: it lives
	away time.Duration // the longest time without one, since it was asked last

	handled int // messages
	// last is by sender and id how much had been handled, receipts among it, when the
	// message came last.
	last     map[string]int
	receipts atomic.Int64
}

// remembered is how many handled messages the SDK remembers at least. It hands on
// once what comes again, unless so many have come in between: after a restore, a
// full disk, or if the servers took no cursor for long. It remembers 4,096, of which
// some hundreds may be under way to the program.
const remembered = 3500

// beyond notes that the device was handed a message, and reports whether the SDK
// may have forgotten it since it came last. Receipts for what the device sends are
// remembered too.
func (m *member) beyond(got *client.Message) bool {
	key := string(got.FromDeviceID) + " " + got.ID
	last, known := m.last[key]
	m.handled++
	now := m.handled + int(m.receipts.Load())
	m.last[key] = now
	return known && now-last > remembered
}

// numbered is a message.
type numbered struct {
	From string
	Lane uint8
	N    int
}

// newFleet starts devices of so many users.
func newFleet(t *testing.T, at target, users int) *fleet {
	t.Helper()
	var names []string
	for n := range users {
		names = append(names, fmt.Sprint("user", n))
	}
	return newFleetOf(t, at, names)
}

// newFleetOf is [newFleet] for users whose names matter.
func newFleetOf(t *testing.T, at target, users []string) *fleet {
	t.Helper()
	keys, err := auth.OpenKeystore(at.data)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, at: at, ledger: newLedger()}
	f.ctx, f.end = context.WithCancel(context.WithoutCancel(t.Context())) // the clean-up ends it
	t.Cleanup(f.close)
	token := func(name string) string {
		address, err := subjects.ParseAddress(name)
		if err != nil {
			t.Fatal(err)
		}
		cred, err := keys.IssueDevice(address, auth.DeviceOptions{Bearer: true})
		if err != nil {
			t.Fatal(err)
		}
		return cred.JWT
	}
	url := wsURL(at.devices)
	for _, user := range users {
		for d := range 2 {
			f.member(fmt.Sprintf("%s/device%d", user, d), url, token)
		}
		name := user + "/listener"
		l := &listener{name: name, url: url, token: token(name), ledger: f.ledger}
		f.listeners = append(f.listeners, l)
		f.wg.Go(func() { l.run(f.ctx) })
	}
	eventually(t, "all devices are registered", func() bool { // a message to one that was never seen has no target
		for _, m := range f.all {
			if m.c.Session().ID == "" {
				return false
			}
		}
		for _, l := range f.listeners {
			if !l.registered() {
				return false
			}
		}
		return true
	}, new(string))
	f.resume()
	return f
}

// member adds a device with the SDK.
func (f *fleet) member(name, url string, token func(string) string) {
	f.t.Helper()
	m := &member{name: name, last: map[string]int{}}
	var err error
	m.c, err = client.Dial(f.ctx, url, &client.Options{
		// An edge may take 3 s to read what waits: who gives up before has it read again.
		Token: token(name), Heartbeat: 5 * time.Second, HandshakeTimeout: 5 * time.Second, Offline: true,
		OnConnect: func(client.Session) { m.back() }, OnDisconnect: func(error) { m.gone() },
		OnOutcome: func(client.Outcome) { m.receipts.Add(1) },
		OnGap:     func(g wire.Gap) { f.ledger.gap(m.name, g) },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.all = append(f.all, m)
	client.HandleJSON(m.c, "numbered", func(_ context.Context, v numbered, got *client.Message) error {
		forgot := m.beyond(got)
		f.ledger.arrive(flow{v.From, m.name, v.Lane}, v.N, got.Seq, got.Redelivered && forgot)
		return nil
	})
	f.wg.Go(func() { _ = m.c.Serve(f.ctx) })
}

// resume has all flows go on.
func (f *fleet) resume() {
	sending, stop := context.WithCancel(f.ctx)
	f.stop = stop
	for _, m := range f.all {
		user, device, _ := strings.Cut(m.name, "/")
		peers := []string{"device0"}
		if device == "device0" {
			peers = []string{"device1", "listener"}
		}
		for _, peer := range peers {
			for lane := range uint8(len(laneNames)) {
				f.send.Go(func() { f.run(sending, m, flow{m.name, user + "/" + peer, lane}) })
			}
		}
	}
}

// pause ends the sending, and waits until all that was accepted has arrived or
// is told lost.
func (f *fleet) pause() {
	f.t.Helper()
	f.stop()
	f.send.Wait()
	f.ledger.pause()
	state := ""
	eventually(f.t, "all that was accepted has arrived or is told lost", func() bool {
		missing := f.ledger.missing()
		state = strings.Join(missing, "; ")
		return len(missing) == 0
	}, &state)
}

// run sends in one flow until sending ends. What was begun is finished.
func (f *fleet) run(sending context.Context, m *member, to flow) {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	_, peer, _ := strings.Cut(to.to, "/")
	for n := f.ledger.marks()[to]; ; n++ {
		select {
		case <-sending.Done():
			return
		case <-tick.C:
		}
		if !f.one(m, to, peer, n) {
			return
		}
	}
}

// one sends a message until it is accepted.
func (f *fleet) one(m *member, to flow, peer string, n int) bool {
	id := fmt.Sprintf("%s-%d-%d", peer, to.lane, n)
	for {
		got, err := m.c.SendJSON(f.ctx, "numbered", numbered{m.name, to.lane, n},
			client.To(subjects.DeviceID(peer)), client.WithPriority(subjects.Lane(to.lane)), client.WithID(id))
		if err == nil && len(got.Recipients) == 1 {
			f.ledger.accept(to, n, got.Recipients[0].Seq)
			return true
		}
		if f.ctx.Err() != nil {
			return false
		}
		// What was refused for now is sent again, under its id.
		select {
		case <-time.After(100 * time.Millisecond):
		case <-f.ctx.Done():
			return false
		}
	}
}

func (m *member) gone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost.IsZero() {
		m.lost = time.Now()
	}
}

func (m *member) back() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.lost.IsZero() {
		m.away = max(m.away, time.Since(m.lost))
		m.lost = time.Time{}
	}
}

// takeAway is the longest time that a device was without connection, since it
// was asked last.
func (f *fleet) takeAway() (longest time.Duration) {
	for _, m := range f.all {
		m.mu.Lock()
		if !m.lost.IsZero() {
			longest = max(longest, time.Since(m.lost))
		}
		longest = max(longest, m.away)
		m.away = 0
		m.mu.Unlock()
	}
	return longest
}

// flowing waits until every flow has gone on from here.
func (f *fleet) flowing(after string) {
	f.t.Helper()
	marks := f.ledger.marks()
	state := ""
	eventually(f.t, "messages flow after "+after, func() bool {
		state = f.ledger.behind(marks)
		return state == ""
	}, &state)
}

// finish ends the sending, and checks that presence and sessions are as they
// should be. The result is the sum of all flows.
func (f *fleet) finish() tally {
	f.t.Helper()
	f.pause()
	state := ""
	eventually(f.t, "every device has one connection", func() bool {
		n := 0
		for _, p := range f.at.edges {
			n += p.metric("rccs_connections")
		}
		state = fmt.Sprint(n, " connections")
		return n == len(f.all)+len(f.listeners)
	}, &state)
	for _, m := range f.all {
		eventually(f.t, "presence is true again", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			list, err := m.c.Devices(ctx)
			state = fmt.Sprintf("%s sees %+v, %v", m.name, list, err)
			online := 0
			for i := range list {
				if list[i].Status == wire.Online {
					online++
				}
			}
			return err == nil && len(list) == 3 && online == 3
		}, &state)
	}
	sum := f.ledger.total(true)
	for _, wrong := range f.ledger.errors() {
		f.t.Error(wrong)
	}
	return sum
}

func (f *fleet) close() {
	f.end()
	f.send.Wait()
	for _, m := range f.all {
		_ = m.c.Close()
	}
	f.wg.Wait()
}
