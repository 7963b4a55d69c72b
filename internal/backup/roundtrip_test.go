package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/backup"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// All that devices rely on goes on after a restore, as it would have where it
// came from.
func TestInstallationGoesOnFromABackup(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	phone, desktop, lost := a.token("alice/phone"), a.token("alice/desktop"), a.token("alice/lost")
	p := a.device(phone)
	d := a.device(desktop)
	_ = a.device(lost).Close()

	// The phone has acknowledged 0 to 4, was sent 5 and 6, and is away for 7.
	for i := range 7 {
		a.send("alice/phone", strconv.Itoa(i))
	}
	for i, m := range receive(t, p, 7) {
		if i < 5 {
			m.Ack()
		}
	}
	session := p.Session().ID
	eventually(t, "the cursor says what was acknowledged", func() bool {
		stream, err := a.js.Stream(soon(t), layout.StreamCursor)
		check(t, err)
		address, err := subjects.ParseAddress("alice/phone")
		check(t, err)
		m, err := stream.GetLastMsgForSubject(soon(t), layout.Cursor(address.Key()))
		return err == nil && strings.Contains(string(m.Data), `"unacked":[[],[6,7],[],[]]`)
	})
	check(t, p.Close())
	a.send("alice/phone", "7")

	// What is due later, and a topic.
	due := time.Now().Add(4 * time.Second)
	_, err := d.SendJSON(soon(t), "note", "later", client.To("phone"), client.WithDeliverAt(due), client.WithID("later"))
	check(t, err)
	var published []uint64
	for i := range 3 {
		r, err := d.Publish(soon(t), "news", i)
		check(t, err)
		published = append(published, r.Seq)
	}
	_, err = a.Keys().Revoke(subjects.Address{User: "alice", Device: "lost"})
	check(t, err)
	check(t, d.Close())

	path, m := a.save(backup.SaveOptions{})
	was := lastSeq(m, layout.StreamInbox)
	a.stop()
	a.nc = nil
	if m.Version != "test" || !m.Keys || m.Messages() == 0 {
		t.Errorf("manifest: version %q, keys %t, %d messages", m.Version, m.Keys, m.Messages())
	}

	b := restored(t, path)
	if b.Keys().Created() || b.Keys().Account().PublicKey != a.Keys().Account().PublicKey {
		t.Error("the keys are others")
	}
	if got := b.inbox().LastSeq; got != was && (got != was+1 || time.Now().Before(due)) {
		t.Errorf("the inbox stream is at %d, was at %d", got, was)
	}
	p = b.device(phone)
	var got []string
	next := was + 1
	for _, m := range receive(t, p, 4) {
		got = append(got, string(m.Payload))
		next = max(next, m.Seq+1) // of what is due later, which may have come before the backup
		// What the backup has may have been sent after it was made, for all that is
		// known.
		if !m.Redelivered {
			t.Errorf("%s is not marked redelivered", m.Payload)
		}
		m.Ack()
	}
	if want := []string{"5", "6", "7", `"later"`}; !slices.Equal(got, want) {
		t.Errorf("delivered %s, want %s", got, want)
	}
	if time.Now().Before(due) {
		t.Error("what is due later came before")
	}
	if id := p.Session().ID; id != session {
		t.Logf("session %s, was %s", id, session) // it may be another: it is a new connection
	}
	// Between may be what the sender of the delayed message is told of it.
	if seq := b.send("alice/phone", "8"); seq < next || seq > next+1 {
		t.Errorf("stored with sequence %d, want %d", seq, next)
	}
	if m := receive(t, p, 1)[0]; string(m.Payload) != "8" {
		t.Errorf("then %s", m.Payload)
	}
	b.topics(t, desktop, published)
	if c, err := b.connect(lost); err == nil {
		_ = c.Close()
		t.Error("a revoked credential is good again")
	}
	devices, err := p.Devices(soon(t))
	if err != nil || len(devices) != 3 {
		t.Errorf("devices %+v, %v", devices, err)
	}
	diffs, err := differences(t, b)
	if err != nil || len(diffs) > 0 {
		t.Errorf("streams differ from what they should be: %v, %v", diffs, err)
	}
}

// topics checks that what was published is there, and that sequences go on.
func (h *home) topics(t *testing.T, token string, published []uint64) {
	t.Helper()
	d := h.device(token)
	news, err := d.Subscribe(soon(t), "news", &client.SubscribeOptions{Since: wire.Since{Kind: wire.SinceSeq, Seq: published[0]}})
	check(t, err)
	r, err := d.Publish(soon(t), "news", 3)
	check(t, err)
	if want := published[len(published)-1] + 1; r.Seq != want || r.Seq < layout.FirstTopicSeq {
		t.Errorf("topic goes on with %d, want %d", r.Seq, want)
	}
	for i := range 3 {
		m, err := news.Next(soon(t))
		check(t, err)
		if string(m.Payload) != strconv.Itoa(i+1) {
			t.Errorf("topic: %s, want %d", m.Payload, i+1)
		}
	}
}

// What was accepted before a backup began is in it, whatever flows meanwhile;
// devices that acknowledge all the time keep their cursors.
func TestBackupWhileMessagesFlow(t *testing.T) {
	t.Parallel()
	const devices, before = 8, 30
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	ctx, cancel := context.WithCancel(t.Context())
	var flow sync.WaitGroup
	tokens, third := make([]string, devices), make([]uint64, devices)
	for n := range devices {
		name := fmt.Sprintf("bob/d%d", n)
		tokens[n] = a.token(name)
		for i := range before {
			if seq := a.send(name, strconv.Itoa(i)); i < before/3 {
				third[n] = seq
			}
		}
		c := a.device(tokens[n])
		flow.Go(func() { // all but the first third is never acknowledged
			for seen := 0; ; seen++ {
				m, err := c.Receive(ctx)
				if err != nil {
					return
				}
				if seen < before/3 || seen >= before {
					m.Ack()
				}
			}
		})
		flow.Go(func() {
			for i := before; ctx.Err() == nil; i++ {
				address := subjects.Address{User: "bob", Device: subjects.DeviceID(fmt.Sprintf("d%d", n))}
				_, _ = a.js.Publish(ctx, subjects.Inbox(address.Key(), subjects.Normal), []byte(strconv.Itoa(i)))
			}
		})
	}
	for n := range devices {
		eventually(t, "the cursor says what was acknowledged", func() bool { return a.acknowledged(fmt.Sprintf("bob/d%d", n), third[n]) })
	}
	busy := a.inbox().LastSeq
	eventually(t, "messages flow", func() bool { return a.inbox().LastSeq > busy+200 })
	path, m := a.save(backup.SaveOptions{})
	eventually(t, "messages flow on", func() bool { return a.inbox().LastSeq > lastSeq(m, layout.StreamInbox) })
	cancel()
	flow.Wait()
	// The moment between two streams is too short to be caught by every run.
	order := make([]string, 0, len(m.Streams))
	for i := range m.Streams {
		order = append(order, m.Streams[i].Name)
	}
	if k := len(order); order[0] != layout.StreamCursor || order[k-2] != layout.StreamInbox || order[k-1] != subjects.StreamLater {
		t.Errorf("read in the order %s", order)
	}

	// A cursor newer than the inbox would hide what is stored from here on.
	b := restored(t, path)
	for n := range devices {
		b.send(fmt.Sprintf("bob/d%d", n), "-1")
	}
	for n := range devices {
		c := b.device(tokens[n])
		missing := []int{-1}
		for i := before / 3; i < before; i++ {
			missing = append(missing, i)
		}
		for len(missing) > 0 {
			m, err := c.Receive(soon(t))
			check(t, err)
			i, err := strconv.Atoi(string(m.Payload))
			check(t, err)
			if i == 0 {
				t.Fatalf("device %d is given everything again", n)
			}
			if k := slices.Index(missing, i); k >= 0 {
				missing = slices.Delete(missing, k, k+1)
			}
			m.Ack()
		}
		check(t, c.Close())
	}
}

// acknowledged reports whether a device's stored cursor has all up to seq.
func (h *home) acknowledged(name string, seq uint64) bool {
	address, err := subjects.ParseAddress(name)
	check(h.tb, err)
	n := h.Keys().Shards()
	stream, err := shard.At(shard.OfUser(address.User, n), n).JetStream(h.js).Stream(soon(h.tb), layout.StreamCursor)
	check(h.tb, err)
	m, err := stream.GetLastMsgForSubject(soon(h.tb), layout.Cursor(address.Key()))
	if err != nil {
		return false
	}
	var cursor struct {
		Sent    []uint64   `json:"sent"`
		Unacked [][]uint64 `json:"unacked"`
	}
	check(h.tb, json.Unmarshal(m.Data, &cursor))
	lane := subjects.Normal
	return cursor.Sent[lane] >= seq && !slices.ContainsFunc(cursor.Unacked[lane], func(owed uint64) bool { return owed <= seq })
}

func lastSeq(m *backup.Manifest, stream string) uint64 {
	for i := range m.Streams {
		if m.Streams[i].Name == stream {
			return m.Streams[i].Last
		}
	}
	return 0
}

// What waits in the stream for later is due when the restored server starts,
// although its time came meanwhile.
func TestWhatBecameDueMeanwhileIsDelivered(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	token := a.token("alice/phone")
	p := a.device(token)
	due := time.Now().Add(1500 * time.Millisecond)
	for i := range 5 {
		_, err := p.SendJSON(soon(t), "note", i, client.To("phone"), client.WithDeliverAt(due), client.WithID(strconv.Itoa(i)))
		check(t, err)
	}
	check(t, p.Close())
	path, _ := a.save(backup.SaveOptions{})
	a.stop()
	a.nc = nil
	eventually(t, "it is due", func() bool { return time.Now().After(due) })
	b := restored(t, path)
	p = b.device(token)
	for range 5 {
		m, err := p.Receive(soon(t))
		check(t, err)
		m.Ack()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if m, err := p.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a sixth came: %+v, %v", m, err)
	}
}

// A service's durable consumer reads on where it was.
func TestServicesReadOn(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	p := a.device(a.token("alice/phone"))
	for i := range 4 {
		_, err := p.SendJSON(soon(t), "order", i, client.ToService())
		check(t, err)
	}
	consumer, err := a.js.CreateConsumer(soon(t), subjects.StreamUp, jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy})
	check(t, err)
	for range 2 {
		m, err := consumer.Next()
		check(t, err)
		check(t, m.DoubleAck(soon(t)))
	}
	path, _ := a.save(backup.SaveOptions{})
	b := restored(t, path)
	consumer, err = b.js.Consumer(soon(t), subjects.StreamUp, "billing")
	check(t, err)
	m, err := consumer.Next()
	check(t, err)
	if string(m.Data()) != "2" {
		t.Errorf("reads on with %s, want 2", m.Data())
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	dir := t.TempDir()
	path, _ := a.save(backup.SaveOptions{Out: dir})
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 || filepath.Join(dir, entries[0].Name()) != path || filepath.Ext(path) != ".tar" {
		t.Errorf("made %s, and there are %v", path, entries)
	}
	info, err := os.Stat(path)
	check(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
	data := t.TempDir()
	check(t, os.Chmod(data, 0o755))
	check(t, restore(t, path, data, backup.RestoreOptions{}))
	check(t, filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		check(t, err)
		info, err := d.Info()
		check(t, err)
		rel, err := filepath.Rel(data, path)
		check(t, err)
		if top, _, _ := cut(rel); top == "jetstream" {
			return nil // nats-server's own; the directory above keeps others out
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	}))
}

func TestBackupWithoutKeys(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	token := a.token("alice/phone")
	a.send("alice/phone", "1")
	path, m := a.save(backup.SaveOptions{NoKeys: true})
	if m.Keys {
		t.Error("it says that it has keys")
	}
	for _, p := range m.Parts {
		if filepath.Ext(p.Name) == ".nk" {
			t.Errorf("it has %s", p.Name)
		}
	}
	data := filepath.Join(t.TempDir(), "new")
	refused(t, restore(t, path, data, backup.RestoreOptions{}), "--keys")
	refused(t, restore(t, path, data, backup.RestoreOptions{Keys: t.TempDir()}), "keys")
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made: %v", data, err)
	}
	check(t, restore(t, path, data, backup.RestoreOptions{Keys: filepath.Join(a.data, "keys")}))
	b := serve(t, data)
	if m := receive(t, b.device(token), 1)[0]; string(m.Payload) != "1" {
		t.Errorf("delivered %s", m.Payload)
	}
	full, _ := a.save(backup.SaveOptions{})
	refused(t, restore(t, full, filepath.Join(t.TempDir(), "new"), backup.RestoreOptions{Keys: filepath.Join(a.data, "keys")}), "leave --keys out")
}

func TestConfigurationIsKept(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	conf := filepath.Join(t.TempDir(), "my.conf")
	check(t, os.WriteFile(conf, []byte("max_connections: 7\n"), 0o600))
	path, _ := a.save(backup.SaveOptions{Config: conf})
	data := filepath.Join(t.TempDir(), "new")
	check(t, restore(t, path, data, backup.RestoreOptions{}))
	got, err := os.ReadFile(filepath.Join(data, "nats.conf"))
	if err != nil || string(got) != "max_connections: 7\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNotAnInstallation(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	out := filepath.Join(t.TempDir(), "backup.tar")
	system := func(opts ...nats.Option) (*nats.Conn, error) {
		cred, err := a.Keys().IssueSystem("test")
		check(t, err)
		return nats.Connect(a.NATSURL(), append(opts, cred.Option())...)
	}
	if _, _, err := backup.Save(soon(t), backup.SaveOptions{Out: out, Dial: system}); err == nil {
		t.Error("an account without streams was backed up")
	}
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
