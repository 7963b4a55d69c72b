package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// waitTimeout is how long a test waits for what must happen.
const waitTimeout = testkit.Patience

var eventually = testkit.Eventually

// system is a server with the streams, and a hub on it.
type system struct {
	t   *testing.T
	env *natstest.Env
	nc  *nats.Conn // the test's own
	js  jetstream.JetStream
	hub *inbox.Hub
	pub *inbox.Publisher

	// Of those who attach.
	epoch uint64
	fits  func(*envelope.Message) bool

	mu       sync.Mutex
	restarts []string
}

func (s *system) repaired() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.restarts)
}

func newSystem(t *testing.T, tune func(*inbox.Options)) *system {
	t.Helper()
	return newSystemOn(t, natstest.Server(t), tune)
}

func newSystemOn(t *testing.T, env *natstest.Env, tune func(*inbox.Options)) *system {
	t.Helper()
	s := &system{t: t, env: env}
	s.nc = s.env.Conn(t)
	s.js = must(jetstream.New(s.nc, jetstream.WithDefaultTimeout(testkit.Patience)))
	s.createInbox()
	if _, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: layout.StreamCursor, Subjects: []string{layout.AllCursors()}, AllowDirect: true, MaxMsgsPerSubject: 1,
	}); err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{
		layout.StreamDeadline: layout.AllDeadlines(), subjects.StreamEvent: layout.AllEvents(),
	} {
		if _, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: name, Subjects: []string{subject}, AllowDirect: true, Duplicates: 2 * time.Minute,
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.start(tune)
	return s
}

func (s *system) createInbox() {
	s.t.Helper()
	if _, err := s.js.CreateStream(s.t.Context(), jetstream.StreamConfig{
		Name: layout.StreamInbox, Subjects: layout.AllInboxes(), AllowDirect: true, AllowAtomicPublish: true, Duplicates: 2 * time.Minute,
	}); err != nil {
		s.t.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // set-up that fails must end the test, and has no t at hand
	}
	return v
}

// start gives the system a hub; stop ends it as a clean shutdown does.
func (s *system) start(tune func(*inbox.Options)) {
	s.t.Helper()
	s.pub = must(inbox.NewPublisher(s.env.Dialer(), nil))
	opts := inbox.Options{
		Read: s.env.Conn(s.t), Fetch: s.env.Conn(s.t), Publish: s.pub,
		CursorEvery: 10 * time.Millisecond, Heartbeat: 100 * time.Millisecond,
		Restarted: func(reason string) {
			s.mu.Lock()
			s.restarts = append(s.restarts, reason)
			s.mu.Unlock()
		},
	}
	if tune != nil {
		tune(&opts)
	}
	s.hub = must(inbox.New(opts))
	if err := s.hub.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	hub, pub := s.hub, s.pub
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = hub.Stop(ctx) // a test that broke the server may have lost it
		pub.Stop()
	})
}

func (s *system) stop() {
	s.t.Helper()
	if err := s.hub.Stop(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.pub.Stop()
}

// abandon leaves the hub as a kill does: nothing more is stored.
func (s *system) abandon() {
	s.t.Helper()
	s.pub.Stop()
	ctx, cancel := context.WithTimeout(s.t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = s.hub.Stop(ctx)
}

var phone = subjects.Address{User: "alice", Device: "phone"}.Key()

// put stores n messages whose bodies are numbers from first on, in one lane.
func (s *system) put(k subjects.Key, lane subjects.Lane, first, n int) {
	s.t.Helper()
	for i := range n {
		if err := s.store(k, lane, first+i); err != nil {
			s.t.Fatal(err)
		}
	}
}

// store stores one message once, however often the connection is cut.
func (s *system) store(k subjects.Key, lane subjects.Lane, body int) error {
	msg := &nats.Msg{Subject: subjects.Inbox(k, lane), Data: []byte(strconv.Itoa(body))}
	msg.Header = nats.Header{"Nats-Msg-Id": {fmt.Sprint(k, lane, body)}}
	try := 200 * time.Millisecond
	for deadline := time.Now().Add(waitTimeout); ; try = min(2*try, waitTimeout/10) { // a busy machine may need longer
		ctx, cancel := context.WithTimeout(s.t.Context(), try)
		_, err := s.js.PublishMsg(ctx, msg)
		cancel()
		if err == nil || time.Now().After(deadline) || s.t.Context().Err() != nil {
			return err
		}
	}
}

// device is a mailbox and what came out of it.
type device struct {
	t       *testing.T
	mailbox *inbox.Mailbox
	fits    func(*envelope.Message) bool // nil: every message does
	woken   chan struct{}
	gone    chan struct{}
}

func newDevice(t *testing.T) *device {
	return &device{t: t, woken: make(chan struct{}, 1), gone: make(chan struct{})}
}

// MessagesReady implements [inbox.Receiver].
func (d *device) MessagesReady() { signal(d.woken) }

// Evicted implements [inbox.Receiver].
func (d *device) Evicted() { close(d.gone) }

// Fits implements [inbox.Receiver].
func (d *device) Fits(m *envelope.Message) bool { return d.fits == nil || d.fits(m) }

// Acked implements [inbox.Receiver].
func (d *device) Acked(uint64, time.Duration) {}

// attach opens a device's inbox once the hub has handed out what is stored, so
// that a test knows what is waiting.
func (s *system) attach(k subjects.Key, window int) *device {
	s.t.Helper()
	s.caughtUp()
	return s.attachNow(k, window)
}

func (s *system) attachNow(k subjects.Key, window int) *device {
	s.t.Helper()
	d := newDevice(s.t)
	d.fits = s.fits
	for deadline := time.Now().Add(waitTimeout); ; { // a store that is too slow is asked again
		mailbox, err := s.hub.Attach(s.t.Context(), k, d, inbox.MailboxOptions{Window: window, Epoch: s.epoch})
		if err == nil {
			d.mailbox = mailbox
			return d
		}
		if time.Now().After(deadline) || !errors.Is(err, context.DeadlineExceeded) {
			s.t.Fatal(err)
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// receive takes exactly n messages, without acknowledging them.
func (d *device) receive(n int) []envelope.Delivery {
	d.t.Helper()
	var got []envelope.Delivery
	deadline := time.After(waitTimeout)
	for {
		got = d.mailbox.Next(got, n-len(got), 1<<20)
		if len(got) == n {
			return got
		}
		select {
		case <-d.woken:
		case <-deadline:
			d.t.Fatalf("%d of %d messages came within %s: %s", len(got), n, waitTimeout, bodies(got))
		}
	}
}

// none says that nothing is there and nothing comes: the hub has handed out
// all that is stored.
func (s *system) none(d *device) {
	s.t.Helper()
	s.caughtUp()
	if got := d.mailbox.Next(nil, 1, 1<<20); len(got) != 0 {
		s.t.Fatalf("unexpected message %s", bodies(got))
	}
}

// caughtUp waits until the hub has read all that is stored.
func (s *system) caughtUp() {
	s.t.Helper()
	var last uint64
	s.eventually("the stream answers", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		stream, err := s.js.Stream(ctx, layout.StreamInbox) // lost when the connection is cut
		if err == nil {
			last = stream.CachedInfo().State.LastSeq
		}
		return err == nil
	})
	s.eventually(fmt.Sprintf("the hub reaches %d", last), func() bool { return s.hub.Head() >= last })
}

func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	eventually(s.t, what, ok)
}

func bodies(ds []envelope.Delivery) string {
	out := ""
	for i, d := range ds {
		if i > 0 {
			out += " "
		}
		out += string(d.Data)
		if d.Redelivered {
			out += "r"
		}
	}
	return out
}

func expect(t *testing.T, got []envelope.Delivery, want string) {
	t.Helper()
	if b := bodies(got); b != want {
		t.Fatalf("got %q, want %q", b, want)
	}
}

// numbers is "first first+1 …" of n numbers.
func numbers(first, n int) string {
	out := ""
	for i := range n {
		if i > 0 {
			out += " "
		}
		out += strconv.Itoa(first + i)
	}
	return out
}

func ack(d *device, ds []envelope.Delivery) {
	for _, m := range ds {
		d.mailbox.Ack(m.Seq)
	}
}
