package reader_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// What is stored and what comes, on the subjects that are wanted, behind a
// sequence, without data; and the same after a restart of the server.
func TestNarrowedReading(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*.*"}}); err != nil {
		t.Fatal(err)
	}
	publish := func() {
		t.Helper()
		for _, subject := range []string{"s.a.x", "s.b.x", "s.a.y", "s.c.x"} {
			id, try := jetstream.WithMsgID(rand.Text()), 500*time.Millisecond
			for deadline := time.Now().Add(testkit.Patience); ; {
				// What is sent while a connection breaks is lost without a word.
				ctx, cancel := context.WithTimeout(t.Context(), try)
				_, err := js.Publish(ctx, subject, []byte("data"), id)
				cancel()
				if err == nil {
					break
				}
				try *= 2
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
		}
	}
	publish()
	var mu sync.Mutex
	var got, handed []string // got is what Drained was told of
	r, err := reader.New(reader.Options{
		Conn: env.Conn(t), Stream: "S", FromStart: true, After: 2, Filter: []string{"s.a.*", "s.b.x"}, HeadersOnly: true,
		Heartbeat: 100 * time.Millisecond,
		Handle: func(e reader.Entry) {
			mu.Lock()
			defer mu.Unlock()
			handed = append(handed, fmt.Sprintf("%d %s %q %s", e.Seq, e.Subject, e.Data, e.Header.Get("Nats-Msg-Size")))
		},
		Drained: func() {
			mu.Lock()
			defer mu.Unlock()
			got = slices.Clone(handed)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	await := func(want ...string) {
		t.Helper()
		for deadline := time.Now().Add(testkit.Patience); ; {
			mu.Lock()
			have := slices.Clone(got)
			mu.Unlock()
			if slices.Equal(have, want) {
				return
			}
			if time.Now().After(deadline) || len(have) > len(want) {
				t.Fatalf("read %q, want %q", have, want)
			}
			<-time.After(time.Millisecond)
		}
	}
	first := []string{`3 s.a.y "" 4`}
	await(first...)
	env.Restart()
	publish()
	await(append(first, `5 s.a.x "" 4`, `6 s.b.x "" 4`, `7 s.a.y "" 4`)...)
}

// The last message, which says that none is left, may be gone before it is
// sent.
func TestStartEndsWhenWhatIsLeftIsRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "WORK", Subjects: []string{"work"}})
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	for range n {
		if _, err := js.Publish(t.Context(), "work", nil); err != nil {
			t.Fatal(err)
		}
	}
	first, removed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r, err := reader.New(reader.Options{
		Conn: env.Conn(t), Stream: "WORK", FromStart: true, Batch: 1, Heartbeat: 100 * time.Millisecond,
		Handle: func(reader.Entry) {
			once.Do(func() { close(first) })
			<-removed
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-first
		defer close(removed)
		if err := stream.Purge(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	ctx := testkit.Soon(t)
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if r.Last() >= n {
		t.Error("all was sent before it was removed: the test shows nothing")
	}
}

// A consumer may read a copy of the stream that lags, as that of a server that has
// just come back. All is read when all is read that the leader has.
func TestStartReadsWhatALaggingCopyLacks(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"S": 5, "COPY": 3} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}}); err != nil {
			t.Fatal(err)
		}
		for range n {
			if _, err := js.Publish(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	env.Leaderless("S", 0, 0) // which then says that it has three copies
	toCopy := func(nc *nats.Conn, m *nats.Msg) {
		m.Subject = strings.Replace(m.Subject, ".S.", ".COPY.", 1)
		m.Data = bytes.Replace(m.Data, []byte(`"stream_name":"S"`), []byte(`"stream_name":"COPY"`), 1)
		_ = nc.PublishMsg(m)
	}
	var stops []func()
	for _, verb := range []string{"CREATE", "INFO", "DELETE", "MSG.NEXT"} {
		stops = append(stops, env.Answer("$JS.API.CONSUMER."+verb+".S.*", toCopy))
	}
	var read atomic.Int64
	var lags atomic.Bool
	r, err := reader.New(reader.Options{
		Conn: env.Conn(t), Stream: "S", FromStart: true, Heartbeat: 100 * time.Millisecond,
		Handle: func(reader.Entry) { read.Add(1) },
		Restarted: func(reason string) {
			if !strings.Contains(reason, "lags") { // a busy machine heard nothing for a while
				return
			}
			lags.Store(true)
			for _, stop := range stops {
				stop()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := read.Load(); n != 5 {
		t.Errorf("%d of 5 messages are read", n)
	}
	if !lags.Load() {
		t.Error("the reader was not restarted for a copy that lags")
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A message that is larger than one request may bring, of a server whose max_payload
// is large, keeps none behind it from coming.
func TestAMessageLargerThanARequestMayBringStopsNothing(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	const most = 1000
	sizes := []int{10, 3 * most, 3 * most, 10, 900, 900, 3 * most, 10}
	for _, size := range sizes {
		if _, err := js.Publish(t.Context(), "s", make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan int, len(sizes))
	r, err := reader.New(reader.Options{
		Conn: env.Conn(t), Stream: "S", FromStart: true, Batch: 4, MaxBytes: most,
		Handle: func(e reader.Entry) { got <- len(e.Data) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(testkit.Soon(t)); err != nil {
		t.Fatal(err)
	}
	for n, want := range sizes {
		if size := <-got; size != want {
			t.Errorf("message %d has %d bytes, want %d", n+1, size, want)
		}
	}
	if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// twin has the consumers of stream S be those of another stream, with as many messages.
// slow is for how long the making of one is held back.
func twin(t *testing.T, env *natstest.Env, js jetstream.JetStream, slow time.Duration, verbs ...string) {
	t.Helper()
	for _, name := range []string{"S", "COPY"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}}); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, verb := range verbs {
		env.Answer("$JS.API.CONSUMER."+verb+".S.*", func(nc *nats.Conn, m *nats.Msg) {
			m.Subject = strings.Replace(m.Subject, ".S.", ".COPY.", 1)
			m.Data = bytes.Replace(m.Data, []byte(`"stream_name":"S"`), []byte(`"stream_name":"COPY"`), 1)
			if verb == "CREATE" && slow > 0 {
				time.AfterFunc(slow, func() { _ = nc.PublishMsg(m) })
				return
			}
			_ = nc.PublishMsg(m)
		})
	}
}

// A machine may be so busy that its server takes longer to make a consumer than the
// client waits for by itself.
func TestAStartOutlivesAServerThatIsSlowToMakeAConsumer(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	twin(t, env, js, 6*time.Second, "CREATE", "INFO", "DELETE", "MSG.NEXT")
	read := 0
	r, err := reader.New(reader.Options{
		Conn: env.Conn(t), Stream: "S", FromStart: true, Handle: func(reader.Entry) { read++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if read != 1 {
		t.Errorf("%d of 1 messages are read", read)
	}
}

// restarts counts those of a reader of stream S.
func restarts(t *testing.T, nc *nats.Conn, heartbeat time.Duration) (count *atomic.Int64) {
	t.Helper()
	count = new(atomic.Int64)
	r, err := reader.New(reader.Options{
		Conn: nc, Stream: "S", Heartbeat: heartbeat,
		Handle: func(reader.Entry) {}, Restarted: func(string) { count.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return count
}

// A consumer that says nothing is replaced soon. If those that replace it say nothing
// either, each of them gets more time.
func TestConsumersThatAreSilentOneAfterTheOtherAreReplacedEverLessOften(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"S"}}); err != nil {
		t.Fatal(err)
	}
	env.Answer("$JS.API.CONSUMER.MSG.NEXT.S.*", func(*nats.Conn, *nats.Msg) {})
	count := restarts(t, env.Conn(t), 100*time.Millisecond)
	from := time.Now()
	testkit.Eventually(t, "the first consumer to be replaced", func() bool { return count.Load() > 0 })
	t.Logf("after %s", time.Since(from))
	testkit.Eventually(t, "some time to pass", func() bool { return time.Since(from) > 5*time.Second })
	if n := count.Load(); n > 6 { // after 250, 500, 1000, 2000, 2000 ms
		t.Errorf("%d consumers were replaced in 5 s", n)
	}
}
