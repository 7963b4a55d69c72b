package coordinator_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// firstCopy stores what a process leaves that dies in the middle of a fan-out.
func (p *place) firstCopy(from, id string, to ...string) {
	p.t.Helper()
	var names []string
	for _, name := range to {
		_, device, _ := strings.Cut(string(address(name).Key()), ".")
		names = append(names, device)
	}
	key, err := proof.Load(p.ctx(), p.js)
	if err != nil {
		p.t.Fatal(err)
	}
	sender := envelope.Sender{Key: address(from).Key(), Device: address(from).Device, Proof: key}
	m := envelope.Inbox(&wire.Envelope{ID: id, Type: "note", Priority: wire.Normal}, sender, address(to[0]).Key(), 0, []byte(`"hi"`))
	m.Header[layout.HeaderCopies] = []string{strings.Join(names, " ")}
	if _, err := p.js.PublishMsg(p.ctx(), m); err != nil {
		p.t.Fatal(err)
	}
}

// A process that dies in the middle of a fan-out leaves some of the copies.
// Sent again under its id, the message reaches the others as well.
func TestRepeatOfABrokenFanOutStoresTheMissingCopies(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	for _, name := range []string{"alice/a", "alice/b", "alice/phone"} {
		p.register(e, name, "desktop")
	}
	p.coordinate()
	p.firstCopy("alice/phone", "m1", "alice/a", "alice/b")
	told, code := p.device("alice/phone").send("send", map[string]any{"type": "note", "id": "m1", "to": map[string]any{}, "payload": "hi"})
	if code != "" || !told.Duplicate || len(told.Recipients) != 2 || told.Recipients[0].Seq == 0 || told.Recipients[1].Seq == 0 {
		t.Fatalf("told %+v %s, want a duplicate with both sequences", told, code)
	}
	for _, name := range []string{"alice/a", "alice/b"} {
		if got := p.inbox(name); len(got) != 1 {
			t.Errorf("%s has %v, want one message", name, got)
		}
	}
}

func TestFanOutOverNATSIsNoAtomicBatch(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	for _, name := range []string{"alice/a", "alice/b", "alice/phone"} {
		p.register(e, name, "desktop")
	}
	p.coordinate()
	if told, code := p.device("alice/phone").send("send", map[string]any{"type": "note", "id": "m1", "to": map[string]any{}, "payload": 1}); code != "" || len(told.Recipients) != 2 {
		t.Fatalf("told %+v %s", told, code)
	}
	for _, m := range p.stored(layout.StreamInbox, layout.AllInboxes()[subjects.Normal]) {
		if m.Header.Get("Nats-Batch-Id") != "" {
			t.Errorf("message %d was stored in an atomic batch", m.Sequence)
		}
	}
}

// limitStorage makes the inbox stream full, or not.
func (p *place) limitStorage(bytes int64) {
	p.t.Helper()
	s, err := p.js.Stream(p.ctx(), layout.StreamInbox)
	if err != nil {
		p.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes, cfg.Discard = bytes, jetstream.DiscardNew
	if _, err := p.js.UpdateStream(p.ctx(), cfg); err != nil {
		p.t.Fatal(err)
	}
}

func TestStorageLimitIsNoFaultOfTheMessage(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.coordinate()
	phone := p.device("alice/phone")
	p.limitStorage(1)
	if _, code := phone.send("send", map[string]any{"type": "note", "id": "m1", "toDeviceId": "desk", "payload": 1}); code != string(wire.Unavailable) {
		t.Errorf("told %q, want UNAVAILABLE: it passes when there is room", code)
	}
	p.publish(subjects.Route("alice", subjects.Selector{DeviceType: "desktop"}), `"from a service"`)
	p.limitStorage(-1)
	p.eventually("the route is delivered once there is room", func() bool {
		return len(p.inbox("alice/desk")) == 1 && p.routesLeft() == 0
	})
}

func TestInboxLimitHoldsOverNATS(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.coordinateWith(coordinator.Options{InboxLimit: 2})
	phone := p.device("alice/phone")
	for i, want := range []string{"", "", string(wire.QueueFull)} {
		if _, code := phone.send("send", map[string]any{"type": "note", "id": strconv.Itoa(i), "toDeviceId": "desk", "payload": 1}); code != want {
			t.Errorf("message %d: told %q, want %q", i, code, want)
		}
	}
}

func TestRatesHoldOverNATS(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/desk", "desktop")
	p.coordinateWith(coordinator.Options{Rates: send.Rates{DeviceMessages: 1}})
	accepted, refused := 0, 0
	fast, neighbour := p.device("alice/phone"), p.device("alice/tablet")
	answers, err := fast.nc.SubscribeSync(fast.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	p.eventually("a refusal", func() bool {
		const atOnce = 20 // a slow machine is given another every second
		for i := range atOnce {
			body := fmt.Sprintf(`{"type":"note","id":"%d","toDeviceId":"desk","payload":1}`, accepted+refused+i)
			if err := fast.nc.PublishRequest(subjects.DeviceEndpoint(fast.key, "send"), answers.Subject, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		for range atOnce {
			switch m, err := answers.NextMsg(patience); {
			case err != nil:
				t.Fatal(err)
			case m.Header.Get("Nats-Service-Error") == "":
				accepted++
			case strings.Contains(string(m.Data), string(wire.RateLimited)):
				refused++
			default:
				t.Fatalf("told %s", m.Data)
			}
		}
		return refused > 0
	})
	if accepted < 2 {
		t.Errorf("%d were accepted, want a burst of two", accepted)
	}
	if _, code := neighbour.send("send", map[string]any{"type": "note", "id": "n", "toDeviceId": "desk", "payload": 1}); code != "" {
		t.Errorf("a neighbour was told %s", code)
	}
}

// The bucket forgets a task after seven days. One that is in use keeps its
// device, however its messages come.
func TestTaskInUseOverNATSKeepsItsDevice(t *testing.T) {
	t.Parallel()
	p, e := placeWithEdge(t)
	p.connect(e, "alice/desk", "desktop")
	p.coordinate()
	entry := layout.TaskEntry("alice", "t1")
	old := `{"device":"desk","at":"` + time.Now().Add(-6*24*time.Hour).UTC().Format(time.RFC3339) + `"}`
	before, err := p.bucket(layout.BucketTasks).Create(p.ctx(), entry, []byte(old))
	if err != nil {
		t.Fatal(err)
	}
	if _, code := p.device("alice/phone").send("send", map[string]any{"type": "task_status", "id": "1", "payload": map[string]any{"taskId": "t1"}}); code != "" {
		t.Fatalf("told %s", code)
	}
	after, err := p.bucket(layout.BucketTasks).Get(p.ctx(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if after.Revision() == before || !strings.Contains(string(after.Value()), `"device":"desk"`) {
		t.Errorf("the entry is %s as before: it would be forgotten in a day", after.Value())
	}
}
