package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/snapshot"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

type site struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func newSite(tb testing.TB, opts ...natstest.Option) *site {
	tb.Helper()
	nc := natstest.Server(tb, opts...).Conn(tb)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		tb.Fatal(err)
	}
	return &site{nc: nc, js: js}
}

func (s *site) stream(tb testing.TB, c jetstream.StreamConfig) jetstream.Stream {
	tb.Helper()
	stream, err := s.js.CreateStream(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return stream
}

func (s *site) publish(tb testing.TB, subject, body string) uint64 {
	tb.Helper()
	ack, err := s.js.Publish(tb.Context(), subject, []byte(body))
	if err != nil {
		tb.Fatal(err)
	}
	return ack.Sequence
}

func (s *site) take(tb testing.TB, name string) (*snapshot.Stream, []byte) {
	tb.Helper()
	d := direct.New(s.nc)
	if err := d.Start(); err != nil {
		tb.Fatal(err)
	}
	defer d.Stop()
	var archive bytes.Buffer
	source := &snapshot.Source{Conn: s.nc, Direct: d, Dir: tb.TempDir()}
	stream, err := source.Take(tb.Context(), name, &archive, func(int) {})
	if err != nil {
		tb.Fatal(err)
	}
	return stream, archive.Bytes()
}

func (s *site) put(tb testing.TB, stream *snapshot.Stream, archive []byte) error {
	tb.Helper()
	return snapshot.Put(tb.Context(), s.nc, stream, 1, bytes.NewReader(archive), func(int) {})
}

func (s *site) state(tb testing.TB, name string) *jetstream.StreamInfo {
	tb.Helper()
	stream, err := s.js.Stream(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := stream.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return info
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config jetstream.StreamConfig
		fill   func(t *testing.T, s *site, stream jetstream.Stream)
	}{
		"empty":           {jetstream.StreamConfig{}, func(*testing.T, *site, jetstream.Stream) {}},
		"empty, advanced": {jetstream.StreamConfig{FirstSeq: 1 << 52}, func(*testing.T, *site, jetstream.Stream) {}},
		"first sequence": {jetstream.StreamConfig{FirstSeq: 1 << 52, MaxAge: time.Hour}, func(t *testing.T, s *site, _ jetstream.Stream) {
			s.publish(t, "s.a", "1")
			s.publish(t, "s.b", "2")
		}},
		"holes": {jetstream.StreamConfig{MaxMsgsPerSubject: 2}, func(t *testing.T, s *site, stream jetstream.Stream) {
			for i := range 20 {
				s.publish(t, "s."+strconv.Itoa(i%3), strings.Repeat("x", i*1000))
			}
			for _, seq := range []uint64{1, 15, 20} {
				_ = stream.DeleteMsg(t.Context(), seq)
			}
		}},
		"short age": {jetstream.StreamConfig{MaxAge: time.Second}, func(t *testing.T, s *site, _ jetstream.Stream) {
			s.publish(t, "s.a", "1")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newSite(t), newSite(t)
			c.config.Name, c.config.Subjects, c.config.AllowDirect = "S", []string{"s.*"}, true
			c.fill(t, a, a.stream(t, c.config))
			want := a.state(t, "S")
			stream, archive := a.take(t, "S")
			if stream.Messages != want.State.Msgs && c.config.MaxAge != time.Second || stream.Last != want.State.LastSeq {
				t.Errorf("taken: %+v, want as in %+v", stream, want.State)
			}
			if err := b.put(t, stream, archive); err != nil {
				t.Fatal(err)
			}
			have := b.state(t, "S")
			if have.State.LastSeq != want.State.LastSeq || max(have.State.FirstSeq, 1) != max(want.State.FirstSeq, 1) && c.config.MaxAge != time.Second {
				t.Errorf("state %+v, want %+v", have.State, want.State)
			}
			if got, want := fmt.Sprint(have.Config), fmt.Sprint(want.Config); got != want {
				t.Errorf("configuration\n%s, want\n%s", got, want)
			}
			if seq := b.publish(t, "s.new", "1"); seq != want.State.LastSeq+1 {
				t.Errorf("goes on with %d, want %d", seq, want.State.LastSeq+1)
			}
		})
	}
}

func TestHeadersTimesAndConsumersSurvive(t *testing.T) {
	t.Parallel()
	a, b := newSite(t), newSite(t)
	stream := a.stream(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	for i := range 4 {
		m := nats.NewMsg("s.a")
		m.Header.Set("X", strconv.Itoa(i))
		if _, err := a.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "d", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Name: "ephemeral"}); err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken, archive := a.take(t, "S")
	if taken.Consumers != 1 {
		t.Errorf("%d consumers, want the durable one", taken.Consumers)
	}
	if err := b.put(t, taken, archive); err != nil {
		t.Fatal(err)
	}
	restored, err := b.js.Consumer(t.Context(), "S", "d")
	if err != nil {
		t.Fatal(err)
	}
	m, err = restored.Next()
	if err != nil {
		t.Fatal(err)
	}
	meta, err := m.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	want, err := stream.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Sequence.Stream != 2 || m.Headers().Get("X") != "1" || !meta.Timestamp.Equal(want.Time) {
		t.Errorf("reads on with %+v, headers %v; want sequence 2 of %s", meta, m.Headers(), want.Time)
	}
}

// A bucket whose keys are written all the time has each of them in its
// snapshot, and values not older than the snapshot's beginning.
func TestBucketThatIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	const keys, writers = 2000, 4
	a, b := newSite(t), newSite(t)
	kv, err := a.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "B"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if _, err := kv.PutString(t.Context(), "k"+strconv.Itoa(i), strings.Repeat("x", 2000)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i = (i + writers) % keys {
				_, _ = kv.PutString(ctx, "k"+strconv.Itoa(i), strings.Repeat("y", 2000))
			}
		})
	}
	before := a.state(t, "KV_B").State.LastSeq
	for range 3 {
		taken, archive := a.take(t, "KV_B")
		if taken.Messages != keys {
			t.Errorf("%d messages, want one for each of %d keys", taken.Messages, keys)
		}
		if taken.Last <= before {
			t.Errorf("nothing was written meanwhile: up to %d, as before", before)
		}
		if err := b.put(t, taken, archive); err != nil {
			t.Fatal(err)
		}
		if n := b.state(t, "KV_B").State.Msgs; n != keys {
			t.Errorf("%d keys restored, want %d", n, keys)
		}
		if err := b.js.DeleteStream(t.Context(), "KV_B"); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
}

func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	a := newSite(t)
	a.stream(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	for i := range 10 {
		a.publish(t, "s.a", strconv.Itoa(i))
	}
	taken, archive := a.take(t, "S")
	b := newSite(t)
	if err := b.put(t, taken, archive[:len(archive)-8]); err == nil {
		t.Error("one that is cut off was taken")
	}
	c := newSite(t)
	taken.Messages++
	if err := c.put(t, taken, archive); err == nil || !strings.Contains(err.Error(), "10 messages") {
		t.Errorf("one with a message less than it says: %v", err)
	}
	d := newSite(t)
	if err := d.put(t, &snapshot.Stream{Name: "T", Config: taken.Config}, archive); err == nil {
		t.Error("one of another stream was taken")
	}
}

// A stream whose bound is larger than the store is restored when what it holds fits.
func TestAStreamIsRestoredIntoAStoreThatIsSmallerThanItsBound(t *testing.T) {
	t.Parallel()
	from := newSite(t)
	from.stream(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 1 << 30, MaxAge: time.Hour})
	from.publish(t, "s", "kept")
	stream, archive := from.take(t, "S")
	to := newSite(t, natstest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 }))
	testkit.Check(t, to.put(t, stream, archive))
	if c := to.state(t, "S"); c.State.Msgs != 1 || c.Config.MaxBytes != -1 || c.Config.MaxAge != time.Hour {
		t.Errorf("restored %+v as %+v", c.State, c.Config)
	}
}
