package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
)

// service is a backend with an ordinary NATS client.
type service struct {
	t  testing.TB
	nc *nats.Conn
	js jetstream.JetStream
}

// service connects a backend service with a credential of its own.
func (s *server) service(t testing.TB, name string) *service {
	t.Helper()
	return s.serviceBy(t, must(t, "creds", "service", name, "--data", s.data))
}

func (s *server) serviceBy(t testing.TB, creds string, opts ...nats.Option) *service {
	t.Helper()
	nc := natstest.Dial(t, s.NATS, append(opts, credsOption(t, creds), nats.ErrorHandler(nobody))...)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	return &service{t: t, nc: nc, js: js}
}

// nobody hears of refusals that a test provokes: what counts is that nothing
// comes of them.
func nobody(*nats.Conn, *nats.Subscription, error) {}

// credsOption is a .creds file as a client is given it.
func credsOption(t testing.TB, creds string) nats.Option {
	t.Helper()
	path := filepath.Join(t.TempDir(), "user.creds")
	if err := os.WriteFile(path, []byte(creds), 0o600); err != nil {
		t.Fatal(err)
	}
	return nats.UserCredentials(path)
}

// publish stores a message in an inbox and returns its seq.
func (v *service) publish(subject, body string, headers ...string) uint64 {
	v.t.Helper()
	ack, err := v.try(subject, body, headers...)
	if err != nil {
		v.t.Fatalf("publish on %s: %v", subject, err)
	}
	if ack.Stream != "RCCS_INBOX" && (shards == "" || !strings.HasPrefix(ack.Stream, "RCCS_INBOX_")) {
		v.t.Fatalf("publish on %s stored in %s", subject, ack.Stream)
	}
	return ack.Sequence
}

// try publishes with headers in pairs and awaits storage.
func (v *service) try(subject, body string, headers ...string) (*jetstream.PubAck, error) {
	m := nats.NewMsg(subject)
	m.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		m.Header[headers[i]] = append(m.Header[headers[i]], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	return v.js.PublishMsg(ctx, m)
}

// inbox is the subject of a lane of a device's inbox. Names are escaped here
// as section 9 says, by the letter.
func inbox(user, device, lane string) string {
	return "rccs.inbox." + token(user) + "." + token(device) + "." + lane
}

func token(name string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// Services are told apart by their credentials: one that floods the coordinator
// is refused, and others are answered meanwhile, by RCCS and by JetStream.
func TestOneServiceFloodsAndAnotherIsAnswered(t *testing.T) {
	t.Parallel()
	s := start(t)
	flood, other := s.service(t, "flood"), s.service(t, "other")
	inbox := flood.nc.NewInbox()
	var refused atomic.Int32
	if _, err := flood.nc.Subscribe(inbox, func(m *nats.Msg) {
		if m.Header.Get("Nats-Service-Error-Code") == "503" {
			refused.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	consumer, err := other.js.CreateConsumer(t.Context(), "RCCS_UP", jetstream.ConsumerConfig{Durable: "work"})
	if err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	const rounds = 4
	for range rounds {
		for range 1000 {
			for subject, body := range map[string]string{
				"rccs.coordinator.missed": `{"user":"alice","device":"phone"}`, "$JS.API.CONSUMER.INFO.RCCS_UP.work": "",
			} {
				if err := flood.nc.PublishRequest(subject, inbox, []byte(body)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := flood.nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		m, err := other.nc.Request("rccs.coordinator.missed", []byte(`{"user":"alice","device":"phone"}`), patience)
		if err != nil {
			t.Fatal(err)
		}
		if code := m.Header.Get("Nats-Service-Error-Code"); code == "503" {
			t.Errorf("another service is told %s", m.Data)
		}
		if _, err := consumer.Info(t.Context()); err != nil {
			t.Errorf("another service is told by JetStream: %v", err)
		}
		slowest = max(slowest, time.Since(began))
	}
	eventually(t, func() error { // its answers come beside those of the other service
		if refused.Load() == 0 {
			return errors.New("the flood was no flood: nothing of it was refused")
		}
		return nil
	})
	t.Logf("the slowest of %d pairs of answers to another service took %s; of %d requests of the flood %d were refused", rounds, slowest, rounds*2000, refused.Load())
}
