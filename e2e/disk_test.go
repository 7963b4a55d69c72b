package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// storeLimit is a configuration with room for little.
func storeLimit(t *testing.T, bytes int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("max_payload: 2MB\njetstream { max_file_store: %d, sync_interval: 1s }\n", bytes)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inboxIsFull is what doctor says; with several shards the stream has a number.
var inboxIsFull = regexp.MustCompile(`stream RCCS_INBOX(_\d)? is`)

// When the store has reached max_file_store, messages are refused, not lost:
// what was accepted is there after a restart with room again, and a sender of the
// rest knows. internal/chaos does the same with a disk that is full.
func TestFault_FullStoreRefusesAndLosesNothing(t *testing.T) {
	t.Parallel()
	const room = 24 << 20
	s := &server{data: filepath.Join(t.TempDir(), "data"), args: []string{"--config", storeLimit(t, room)}}
	s.tokens = &mint{data: s.data}
	t.Cleanup(func() {
		if err := s.tokens.close(); err != nil {
			t.Error(err)
		}
	})
	s.begin(t)
	u := user(t)
	accepted, refused := fill(t, s, u)
	if refused == 0 {
		t.Fatalf("%d messages fitted into a store of %d bytes", len(accepted), room)
	}
	t.Logf("%d messages were accepted, %d refused", len(accepted), refused)
	// Devices still register and acknowledge, and other tenants are served: one
	// tenant at its share is no reason to send all devices elsewhere.
	s.becomesReady(t)
	if r := rccs(t, "", "doctor", "--data", s.data, "--server", s.NATS); r.status != 1 || !inboxIsFull.MatchString(r.stdout) {
		t.Errorf("doctor: status %d, %s", r.status, r.stdout)
	}
	if status, body := s.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: status %d, %q: the process is alive", status, body)
	}
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	s.args = []string{"--config", storeLimit(t, 8*room)}
	s.begin(t)
	d := connect(t, s, u+"/receiver", object{"batch": true, "window": 32})
	for missing := len(accepted); missing > 0; {
		e := d.message()
		if accepted[e.ID] == e.Seq {
			delete(accepted, e.ID)
			missing--
		}
		d.ack(e.Seq)
	}
	d.give("receiver", "room again", nil)
}

// fill sends until messages are refused. Some are on the way at a time, so that
// a store that does not answer is waited for once.
func fill(t *testing.T, s *server, u string) (accepted map[string]uint64, refused int) {
	t.Helper()
	s.register(t, u+"/receiver")
	sender := connect(t, s, u+"/sender", nil)
	accepted = map[string]uint64{}
	waiting := map[string]bool{}
	body := strings.Repeat("x", 200_000)
	for range 400 {
		for len(waiting) < 4 && refused == 0 {
			id := newID()
			sender.send(object{"id": id, "type": "note", "toDeviceId": "receiver", "payload": body, "requiresAck": true})
			waiting[id] = true
		}
		if len(waiting) == 0 {
			break
		}
		e := sender.pick(false)
		var a answer
		decode(t, e.Payload, &a)
		if !waiting[a.OriginalMessageID] {
			t.Fatalf("an answer that nobody waits for: %s", e.raw)
		}
		delete(waiting, a.OriginalMessageID)
		if e.Type == "ack" && a.Status == "accepted" && len(a.Recipients) == 1 {
			accepted[a.OriginalMessageID] = a.Recipients[0].Seq
			continue
		}
		var f failure
		decode(t, e.Payload, &f)
		switch {
		case f.Code == "UNAVAILABLE" && !strings.Contains(f.Message, "full"):
			// the store was slow; it may have the message
		case f.Code == "UNAVAILABLE", f.Code == "INTERNAL", f.Code == "QUEUE_FULL":
			refused++
		default:
			t.Fatalf("the sender hears %s", e.raw)
		}
	}
	return accepted, refused
}
