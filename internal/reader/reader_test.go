package reader_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/reader"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// What is stored and what comes, on the subjects that are wanted, behind a
// sequence, without data; and the same after a restart of the server.
func TestNarrowedReading(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js, err := jetstream.New(env.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*.*"}}); err != nil {
		t.Fatal(err)
	}
	publish := func() {
		t.Helper()
		for _, subject := range []string{"s.a.x", "s.b.x", "s.a.y", "s.c.x"} {
			id := jetstream.WithMsgID(rand.Text())
			for deadline := time.Now().Add(30 * time.Second); ; {
				// What is sent while a connection breaks is lost without a word.
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				_, err := js.Publish(ctx, subject, []byte("data"), id)
				cancel()
				if err == nil {
					break
				}
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
		for deadline := time.Now().Add(30 * time.Second); ; {
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
	js, err := jetstream.New(env.Conn(t))
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
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
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
