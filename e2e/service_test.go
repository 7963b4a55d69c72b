package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	nc, err := nats.Connect(s.NATS, append(opts, credsOption(t, creds), nats.Timeout(patience), nats.ErrorHandler(nobody))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
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
	if ack.Stream != "RCCS_INBOX" {
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
