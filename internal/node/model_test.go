package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// Two users with three devices each do what comes to mind, and the server is
// stopped and started between. What every device was sent, by seq and id, is
// compared with what was accepted for it.

var modelDevices = []string{"u0/a", "u0/b", "u0/c", "u1/a", "u1/b", "u1/c"}

const modelWait = testkit.Patience

// got is one durable message as it came.
type got struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	From        string `json:"fromDeviceId"`
	Seq         uint64 `json:"seq"`
	Priority    int    `json:"priority"`
	Redelivered bool   `json:"redelivered"`
	Payload     struct {
		To       string `json:"to"` // the user it was sent to
		Original string `json:"originalMessageId"`
		Status   string `json:"status"`
		Device   string `json:"deviceId"`
		Resumed  bool   `json:"resumed"`
	} `json:"payload"`
}

// peer is a connection. Its reader keeps all that comes.
type peer struct {
	ws   *websocket.Conn
	done chan struct{}

	mu      sync.Mutex
	durable []got
	answers map[string]json.RawMessage // payloads of answers, by the message that they are for
	changed chan struct{}
}

func (p *peer) read() {
	defer close(p.done)
	for {
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			return
		}
		var e struct {
			got
			Payload json.RawMessage `json:"payload"`
		}
		if json.Unmarshal(data, &e) != nil {
			continue
		}
		g := e.got
		_ = json.Unmarshal(e.Payload, &g.Payload) // not every payload is one of these
		p.mu.Lock()
		if g.Seq > 0 {
			p.durable = append(p.durable, g)
		} else if g.Type == "ack" || g.Type == "error" {
			p.answers[g.Payload.Original] = e.Payload
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// until waits for what ok sees; it is called with mu held.
func (p *peer) until(t *rapid.T, what string, ok func() bool) {
	late := time.After(modelWait)
	for {
		p.mu.Lock()
		changed, good := p.changed, ok()
		p.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			t.Fatalf("the connection ended while waiting for %s", what)
		case <-late:
			t.Fatalf("no %s", what)
		}
	}
}

func (p *peer) answer(t *rapid.T, id string) json.RawMessage {
	p.until(t, "answer to "+id, func() bool { return p.answers[id] != nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers[id]
}

func (p *peer) send(t *rapid.T, format string, args ...any) {
	if err := p.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// known is a message that was accepted for a device.
type known struct {
	id, from string
	lane     int
	acked    bool // its acknowledgement was processed
	sent     bool // it was seen on some connection
}

type model struct {
	dir   string
	node  *node.Node
	peers map[string]*peer
	seen  map[string]int // how many of the peer's durable messages were looked at
	inbox map[string]map[uint64]*known
	// outcomes that are still to come, by sender: message id and device.
	owed map[string]map[string]bool
	n    int
}

func (m *model) start(t *rapid.T) {
	var err error
	m.node, err = node.New(node.Options{Data: m.dir, StopWithin: time.Minute, Listen: "127.0.0.1:0", Config: rccs.DefaultConfig()})
	if err == nil {
		err = m.node.Start(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) stop(t *rapid.T) {
	for name := range m.peers {
		m.look(t, name)
	}
	if err := m.node.Stop(context.Background()); err != nil {
		t.Fatalf("stop: %v", err)
	}
	for name := range m.peers {
		m.gone(t, name)
	}
}

// gone ends a peer, after a last look at what it was sent.
func (m *model) gone(t *rapid.T, name string) {
	p := m.peers[name]
	_ = p.ws.Close()
	<-p.done
	m.look(t, name)
	delete(m.peers, name)
}

func (m *model) connect(t *rapid.T, name string) {
	address, err := subjects.ParseAddress(name)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := m.node.Keys().IssueDevice(address, auth.DeviceOptions{Bearer: true, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := devicetest.Dial(context.Background(), devicetest.URL(m.node.Addr().String()), devicetest.How{}) //nolint:bodyclose // Dial has closed it
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{ws: ws, done: make(chan struct{}), answers: map[string]json.RawMessage{}, changed: make(chan struct{})}
	go p.read()
	p.send(t, `{"type":"device_register","id":"reg","payload":{"authToken":%q,"type":"desktop","window":16}}`, cred.JWT)
	p.answer(t, "reg")
	if old := m.peers[name]; old != nil { // taken over
		select {
		case <-old.done:
		case <-time.After(modelWait):
			t.Fatal("the connection that was taken over stands")
		}
		m.gone(t, name)
	}
	m.peers[name], m.seen[name] = p, 0
}

// look checks what a device has been sent since it was looked at last.
func (m *model) look(t *rapid.T, name string) {
	p := m.peers[name]
	p.mu.Lock()
	fresh := slices.Clone(p.durable[m.seen[name]:])
	last := map[int]uint64{}
	for _, g := range p.durable[:m.seen[name]] {
		last[g.Priority] = g.Seq
	}
	m.seen[name] = len(p.durable)
	p.mu.Unlock()
	for _, g := range fresh {
		if g.Seq <= last[g.Priority] {
			t.Fatalf("%s: seq %d came after %d in lane %d", name, g.Seq, last[g.Priority], g.Priority)
		}
		last[g.Priority] = g.Seq
		k := m.inbox[name][g.Seq]
		switch {
		case g.Type == "ack":
			if k == nil { // an outcome is heard of when it comes
				k = &known{id: g.Payload.Original + "@" + g.Payload.Device, lane: g.Priority}
				m.inbox[name][g.Seq] = k
				if g.Payload.Status != "delivered" || !m.owed[name][k.id] {
					t.Fatalf("%s: outcome %+v of what it did not send, or for the second time", name, g)
				}
				delete(m.owed[name], k.id)
			}
		case k == nil:
			t.Fatalf("%s: got %+v, which nobody sent it", name, g)
		case g.ID != k.id || g.From != k.from || g.Priority != k.lane || g.Payload.To != name:
			t.Fatalf("%s: got %+v as seq %d, want %+v", name, g, g.Seq, k)
		}
		if k.acked {
			t.Fatalf("%s: %+v comes again though it was acknowledged", name, g)
		}
		if k.sent != g.Redelivered && k.sent {
			t.Fatalf("%s: %+v comes again and does not say so", name, g)
		}
		k.sent = true
	}
}

func (m *model) send(t *rapid.T, from, to string, lane int) {
	m.n++
	id := fmt.Sprintf("m%d", m.n)
	_, device, _ := strings.Cut(to, "/")
	p := m.peers[from]
	p.send(t, `{"type":"note","id":%q,"toDeviceId":%q,"priority":%d,"requiresAck":true,"payload":{"to":%q}}`, id, device, lane, to)
	var a struct {
		Status     string
		Recipients []struct {
			DeviceID string
			Seq      uint64
		}
	}
	if err := json.Unmarshal(p.answer(t, id), &a); err != nil || a.Status != "accepted" || len(a.Recipients) != 1 || a.Recipients[0].DeviceID != device {
		t.Fatalf("%s to %s answered with %+v (%v)", from, to, a, err)
	}
	_, sender, _ := strings.Cut(from, "/")
	m.inbox[to][a.Recipients[0].Seq] = &known{id: id, from: sender, lane: lane}
	m.owed[from][id+"@"+device] = true
}

// ack acknowledges some of what a device has, and waits until that is known.
func (m *model) ack(t *rapid.T, name string, which func(n int) bool) {
	m.look(t, name)
	p := m.peers[name]
	p.mu.Lock()
	have := slices.Clone(p.durable[:m.seen[name]])
	p.mu.Unlock()
	var seqs []string
	for n, g := range have {
		if k := m.inbox[name][g.Seq]; !k.acked && which(n) {
			k.acked = true
			seqs = append(seqs, fmt.Sprint(g.Seq))
		}
	}
	if len(seqs) == 0 {
		return
	}
	p.send(t, `{"type":"ack","payload":{"seqs":[%s]}}`, strings.Join(seqs, ","))
	m.beat(t, name)
}

// beat returns when all that the device said before was processed.
func (m *model) beat(t *rapid.T, name string) {
	m.n++
	id := fmt.Sprintf("beat%d", m.n)
	m.peers[name].send(t, `{"type":"heartbeat","id":%q}`, id)
	m.peers[name].answer(t, id)
}

// finish has every device take all that is there for it.
func (m *model) finish(t *rapid.T) {
	for _, name := range modelDevices {
		if m.peers[name] == nil {
			m.connect(t, name)
		}
	}
	for deadline := time.Now().Add(modelWait); ; {
		left := 0
		for _, name := range modelDevices {
			m.ack(t, name, func(int) bool { return true })
			for _, k := range m.inbox[name] {
				if !k.acked {
					left++
				}
			}
			left += len(m.owed[name])
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages or outcomes never came: %v", left, m.owed)
		}
		m.beat(t, modelDevices[0])
	}
}

// TestModel checks that no accepted message is lost, that each lane keeps its
// order, that nothing comes to the wrong device, that nothing comes again that
// was acknowledged, and that every sender hears once of each delivery.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := mkdirTemp()
		if err != nil {
			t.Fatal(err)
		}
		m := &model{
			dir: dir, peers: map[string]*peer{}, seen: map[string]int{},
			inbox: map[string]map[uint64]*known{}, owed: map[string]map[string]bool{},
		}
		for _, name := range modelDevices {
			m.inbox[name], m.owed[name] = map[uint64]*known{}, map[string]bool{}
		}
		m.start(t)
		defer func() { removeAll(dir) }()
		defer func() { _ = m.node.Stop(context.Background()) }() //nolint:usetesting // it has ended by then
		for _, name := range modelDevices {
			m.connect(t, name) // so that each is registered
		}
		device := rapid.SampledFrom(modelDevices)
		online := func(t *rapid.T) string {
			name := device.Draw(t, "device")
			if m.peers[name] == nil {
				t.Skip("away")
			}
			return name
		}
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) { m.connect(t, device.Draw(t, "device")) },
			"cut":     func(t *rapid.T) { m.gone(t, online(t)) },
			"send": func(t *rapid.T) {
				from := online(t)
				user, _, _ := strings.Cut(from, "/")
				to := user + "/" + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "to")
				for range rapid.IntRange(1, 30).Draw(t, "count") {
					m.send(t, from, to, rapid.IntRange(0, 3).Draw(t, "lane"))
				}
			},
			"ack": func(t *rapid.T) {
				mask := rapid.Uint64().Draw(t, "which")
				m.ack(t, online(t), func(n int) bool { return mask>>(n%64)&1 == 1 })
			},
			"restart": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					t.Skip("too often")
				}
				m.stop(t)
				m.start(t)
			},
			"": func(t *rapid.T) {
				for name := range m.peers {
					m.look(t, name)
				}
			},
		})
		m.finish(t)
		m.stop(t)
	})
}

func mkdirTemp() (string, error) { return os.MkdirTemp("", "rccs-model") }

func removeAll(dir string) { _ = os.RemoveAll(dir) }
