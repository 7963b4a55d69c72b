package chaos_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// users each have two devices that send to each other.
const users = 6

// sendEvery is how often a device sends in each lane.
const sendEvery = 20 * time.Millisecond

// fleet is devices that send numbered messages, in all lanes, and book what
// they receive.
type fleet struct {
	t    *testing.T
	book *book
	all  []*member
	stop context.CancelFunc // of sending
	send sync.WaitGroup
	wg   sync.WaitGroup
	end  context.CancelFunc
}

type member struct {
	name string // USER/DEVICE
	peer string // DEVICE
	c    *client.Client

	mu   sync.Mutex
	lost time.Time     // when the connection ended; zero: it lives
	away time.Duration // the longest time without one, since the last look
}

// numbered is a message.
type numbered struct {
	From string
	Lane uint8
	N    int
}

func newFleet(t *testing.T, c *cluster) *fleet {
	t.Helper()
	keys, err := auth.OpenKeystore(c.plan.Data())
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, book: newBook()}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context())) // the clean-up ends it
	f.end = end
	sending, stop := context.WithCancel(ctx)
	f.stop = stop
	for n := range users * 2 {
		user, device, peer := fmt.Sprint("user", n/2), fmt.Sprint("device", n%2), fmt.Sprint("device", 1-n%2)
		cred, err := keys.IssueDevice(subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}, auth.DeviceOptions{Bearer: true})
		if err != nil {
			t.Fatal(err)
		}
		m := &member{name: user + "/" + device, peer: peer}
		m.c, err = client.Dial(ctx, "ws://"+c.devices.Addr()+"/v1/ws", &client.Options{
			Token: cred.JWT, Heartbeat: 5 * time.Second, HandshakeTimeout: 2 * time.Second, Offline: true,
			OnConnect: func(client.Session) { m.back() }, OnDisconnect: func(error) { m.gone() },
			OnGap: func(g wire.Gap) { f.book.gap(m.name, g) },
		})
		if err != nil {
			t.Fatal(err)
		}
		f.all = append(f.all, m)
		client.HandleJSON(m.c, "numbered", func(_ context.Context, v numbered, _ *client.Message) error {
			f.book.arrive(stream{v.From, m.name, v.Lane}, v.N)
			return nil
		})
		f.wg.Go(func() { _ = m.c.Serve(ctx) })
	}
	c.eventually("all devices are registered", func() bool { // a message to one that was never seen has no target
		for _, m := range f.all {
			if m.c.Session().ID == "" {
				return false
			}
		}
		return true
	}, new(string))
	for _, m := range f.all {
		for lane := range uint8(4) {
			f.send.Go(func() { f.run(ctx, sending, m, lane) })
		}
	}
	t.Cleanup(f.close)
	return f
}

// run sends in one lane until sending ends. What was begun is finished.
func (f *fleet) run(ctx, sending context.Context, m *member, lane uint8) {
	user, _, _ := strings.Cut(m.name, "/")
	s := stream{m.name, user + "/" + m.peer, lane}
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-sending.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		id := fmt.Sprintf("%d-%d", lane, n)
		for {
			_, err := m.c.SendJSON(ctx, "numbered", numbered{m.name, lane, n}, client.To(subjects.DeviceID(m.peer)), client.WithPriority(subjects.Lane(lane)), client.WithID(id))
			if err == nil {
				f.book.accept(s, n, time.Since(began))
				break
			}
			if ctx.Err() != nil {
				return
			}
			// What was refused for now is sent again, under its id.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
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
func (f *fleet) takeAway() (most time.Duration) {
	for _, m := range f.all {
		m.mu.Lock()
		if !m.lost.IsZero() {
			most = max(most, time.Since(m.lost))
		}
		most = max(most, m.away)
		m.away = 0
		m.mu.Unlock()
	}
	return most
}

// flows waits until every stream has gone on from here.
func (f *fleet) flows(c *cluster, after string) {
	c.t.Helper()
	marks := f.book.marks()
	state := ""
	c.eventually("messages flow after "+after, func() bool {
		if !f.book.beyond(marks) {
			state = strings.Join(f.book.missing(), "; ")
			return false
		}
		return true
	}, &state)
}

// finish ends the sending, waits until all that was accepted has arrived, and
// checks that presence and sessions are as they should be.
func (f *fleet) finish(c *cluster) {
	c.t.Helper()
	f.stop()
	f.send.Wait()
	state := ""
	c.eventually("all that was accepted has arrived", func() bool {
		missing := f.book.missing()
		state = strings.Join(missing, "; ")
		return len(missing) == 0
	}, &state)
	c.eventually("every device has one connection", func() bool {
		n := 0
		for _, p := range c.procs[servers:] {
			n += p.metric("rccs_connections")
		}
		state = fmt.Sprint(n, " connections")
		return n == len(f.all)
	}, &state)
	for _, m := range f.all {
		c.eventually("presence is true again", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			list, err := m.c.Devices(ctx)
			state = fmt.Sprintf("%s sees %+v, %v", m.name, list, err)
			return err == nil && len(list) == 2 && list[0].Status == wire.Online && list[1].Status == wire.Online
		}, &state)
	}
	for _, wrong := range f.book.errors() {
		c.t.Error(wrong)
	}
}

func (f *fleet) close() {
	f.end()
	f.send.Wait()
	for _, m := range f.all {
		_ = m.c.Close()
	}
	f.wg.Wait()
}
