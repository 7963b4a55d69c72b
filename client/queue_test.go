package client_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

// sink accepts every message and tells the ids.
func sink(t *testing.T, ids chan string) string {
	return serve(t, func(p *peer) {
		p.registered()
		for {
			e, ok := p.next()
			if !ok {
				return
			}
			if !e.RequiresAck {
				t.Errorf("%s asks for no answer", e.ID)
			}
			p.accept(e, "desk")
			ids <- e.ID
		}
	})
}

func queue(t *testing.T, c *client.Client, ids ...string) {
	t.Helper()
	for _, id := range ids {
		e := wire.NewEnvelope(id, "note", []byte("{\n\t\"id\": \""+id+"\"\n}"))
		if err := c.Enqueue(e); err != nil {
			t.Fatal(err)
		}
	}
}

func wantSent(t *testing.T, sent chan string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if got := testkit.Await(t, id, sent); got != id {
			t.Fatalf("sent %s, want %s", got, id)
		}
	}
}

// unreachable is an address where nobody listens.
const unreachable = "ws://127.0.0.1:1"

func TestQueueSurvivesTheProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "outbox")
	var ids []string
	for n := range 1000 {
		ids = append(ids, fmt.Sprintf("m%d", n))
	}
	offline := dial(t, unreachable, client.Options{Outbox: file, Offline: true})
	queue(t, offline, ids...)
	if _, err := client.Dial(testkit.Soon(t), unreachable, &client.Options{Token: "t", Outbox: file, Offline: true}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file was opened twice: %v", err)
	}
	_ = offline.Close()
	if err := offline.Enqueue(wire.NewEnvelope("late", "note", []byte(`1`))); !errors.Is(err, client.ErrClosed) {
		t.Errorf("queued after Close: %v", err)
	}
	// As if the process had ended in the middle of a write.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("+ 500 12ab {\"half"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()

	sent := make(chan string, 2000)
	told := make(chan string, 2000)
	url := sink(t, sent)
	c := dial(t, url, client.Options{Outbox: file, OnSent: func(id string, a client.Accepted, err error) {
		if err != nil || len(a.Recipients) != 1 || a.ID != id {
			t.Errorf("%s: %+v, %v", id, a, err)
		}
		told <- id
	}})
	queue(t, c, "last")
	wantSent(t, sent, append(slices.Clone(ids), "last")...)
	wantSent(t, told, append(slices.Clone(ids), "last")...)
	if n := c.Unsent(); n != 0 {
		t.Errorf("%d are left", n)
	}
	_ = c.Close()
	again := dial(t, url, client.Options{Outbox: file})
	queue(t, again, "again")
	wantSent(t, sent, "again")
}

func TestQueueTriesAgainWhatTheEdgeCouldNotTake(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		p.refuse(p.want("note"), wire.QueueFull)
		p.refuse(p.want("note"), wire.DeviceNotFound)
		if p.n == 0 {
			if e := p.want("note"); e.ID != "full" {
				t.Errorf("%s came again", e.ID)
			}
			return // cut without an answer
		}
	})
	url2 := serve(t, func(p *peer) {
		p.registered()
		p.accept(p.want("note"), "desk")
		p.drain()
	})
	type result struct {
		id  string
		err error
	}
	told := make(chan result, 4)
	file := filepath.Join(t.TempDir(), "outbox")
	opts := client.Options{Outbox: file, NoReconnect: true, OnSent: func(id string, _ client.Accepted, err error) { told <- result{id, err} }}
	c := dial(t, url, opts)
	queue(t, c, "full", "refused")
	if r := testkit.Await(t, "the refusal", told); r.id != "refused" || !errors.Is(r.err, wire.DeviceNotFound) {
		t.Errorf("told %+v", r)
	}
	testkit.Await(t, "the end", c.Done())
	c = dial(t, url2, opts)
	if r := testkit.Await(t, "the answer", told); r.id != "full" || r.err != nil {
		t.Errorf("told %+v", r)
	}
	_ = c.Close()
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	c := dial(t, unreachable, client.Options{Offline: true, OutboxLimit: 3})
	queue(t, c, "1", "2", "3")
	if err := c.Enqueue(wire.NewEnvelope("4", "note", []byte(`1`))); !errors.Is(err, client.ErrOutboxFull) {
		t.Errorf("past the bound: %v", err)
	}
	if c.Unsent() != 3 {
		t.Errorf("%d are queued", c.Unsent())
	}
}

func TestOfflineConnectsWhenItCan(t *testing.T) {
	t.Parallel()
	sent := make(chan string, 8)
	lost := make(chan error, 100)
	c := dial(t, unreachable, client.Options{Offline: true, OnDisconnect: func(err error) {
		select {
		case lost <- err:
		default:
		}
	}})
	if err := testkit.Await(t, "a failed try", lost); err == nil {
		t.Error("a try failed without an error")
	}
	if c.Session().Connected {
		t.Error("connected to nobody")
	}
	_ = c.Close()
	c = dial(t, sink(t, sent), client.Options{Offline: true})
	a, err := c.SendJSON(testkit.Soon(t), "note", 1, client.WithID("m"))
	if err != nil || len(a.Recipients) != 1 {
		t.Errorf("sent %+v, %v", a, err)
	}
	wantSent(t, sent, "m")
	for deadline := time.Now().Add(patience); !c.Session().Connected; {
		if time.Now().After(deadline) {
			t.Fatal("the session does not say that it is connected")
		}
		<-time.After(time.Millisecond)
	}
}
