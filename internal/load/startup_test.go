package load_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/load"
)

// The store of BenchmarkStartupFull, and its limits.
const (
	fullInboxes  = 100_000
	fullMessages = 1_000_000
	limitFull    = 5000.0 // milliseconds to ready
	limitFirst   = 1000.0 // from then until the first device has all of its own
)

// BenchmarkStartupFull: the same with 1,000,000 messages in 100,000 inboxes of
// registered devices, after a clean stop and after kill -9; and how long after
// that a device has the ten that wait for it.
func BenchmarkStartupFull(b *testing.B) {
	exe, data := program(b), filepath.Join(b.TempDir(), "data")
	fill(b, exe, data)
	for b.Loop() {
		for _, end := range []struct {
			how  string
			stop func(*load.Process) error
		}{
			{"a clean stop", (*load.Process).Stop},
			{"kill -9", func(p *load.Process) error { p.Kill(); return nil }},
		} {
			p, err := load.Serve(exe, data)
			if err != nil {
				b.Fatal(err)
			}
			ready(b, p)
			if err := end.stop(p); err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if p, err = load.Serve(exe, data); err != nil {
				b.Fatal(err)
			}
			ready(b, p)
			took := time.Since(start)
			first := firstServed(b, exe, data, p)
			b.ReportMetric(float64(took.Milliseconds()), strings.ReplaceAll(end.how, " ", "-")+"-ms")
			judge(b, "start to ready after "+end.how, float64(took.Milliseconds()), limitFull, "ms")
			judge(b, "from ready until a device has its 10 messages", float64(first.Microseconds())/1000, limitFirst, "ms")
			if err := p.Stop(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func fullName(n int) load.Name {
	return load.Name{User: fmt.Sprint("u", n/2), Device: fmt.Sprint("d", n%2)}
}

// fill makes the store, by NATS.
func fill(b *testing.B, exe, data string) {
	b.Helper()
	p, err := load.Serve(exe, data)
	if err != nil {
		b.Fatal(err)
	}
	ready(b, p)
	js := storing(b, data, p)
	publish := func(subject string, body []byte) {
		if _, err := js.PublishAsync(subject, body, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	record := deviceRecord(b)
	for n := range fullInboxes {
		name := fullName(n)
		publish("$KV.RCCS_DEVICES."+name.User+"."+name.Device, record)
	}
	body := []byte(`"` + strings.Repeat("x", 126) + `"`)
	for n := range fullMessages {
		name := fullName(n % fullInboxes)
		publish("rccs.inbox."+name.User+"."+name.Device+".normal", body)
	}
	stored(b, js)
	if err := p.Stop(); err != nil {
		b.Fatal(err)
	}
}

// storing is JetStream as a part of RCCS, for writing a store without devices.
func storing(b *testing.B, data string, p *load.Process) jetstream.JetStream {
	b.Helper()
	creds := filepath.Join(b.TempDir(), "part.creds")
	text, err := exec.CommandContext(b.Context(), program(b), "creds", "part", "fill", "--data", data).Output()
	if err == nil {
		err = os.WriteFile(creds, text, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(p.NATS, nats.UserCredentials(creds))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	return js
}

// stored waits until all that was published is stored.
func stored(b *testing.B, js jetstream.JetStream) {
	b.Helper()
	select {
	case <-js.PublishAsyncComplete():
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
}

// deviceRecord is what is stored of a registered device.
func deviceRecord(b *testing.B) []byte {
	b.Helper()
	record, err := json.Marshal(map[string]any{"type": "desktop", "platform": "linux", "version": "1.0.0", "registered": time.Now().UTC()})
	if err != nil {
		b.Fatal(err)
	}
	return record
}

// firstServed is how long it takes from connecting until a device has all that
// waits for it.
func firstServed(b *testing.B, exe, data string, p *load.Process) time.Duration {
	b.Helper()
	name := fullName(fullInboxes / 2)
	ctx, cancel := context.WithTimeout(b.Context(), readyWithin)
	defer cancel()
	tokens, err := load.Tokens(ctx, exe, data, []load.Name{name})
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	ws, answer, err := websocket.DefaultDialer.DialContext(ctx, p.Devices, nil)
	if err != nil {
		b.Fatal(err)
	}
	_ = answer.Body.Close()
	defer func() { _ = ws.Close() }()
	_ = ws.SetReadDeadline(start.Add(readyWithin))
	err = ws.WriteJSON(map[string]any{"id": "r", "type": "device_register", "payload": map[string]any{
		"authToken": tokens[name], "ackMode": "explicit",
	}})
	for got := 0; got < fullMessages/fullInboxes && err == nil; {
		var e struct {
			Type string
			Seq  uint64
		}
		if err = ws.ReadJSON(&e); e.Type == "error" {
			b.Fatalf("refused: %+v", e)
		}
		if e.Seq > 0 {
			got++
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
