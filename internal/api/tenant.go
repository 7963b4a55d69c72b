package api

import (
	"context"
	"net"
	"net/http"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Tenant is what the API needs of a tenant that is served.
type Tenant struct {
	Name string
	// Ops does what operators do; Roster knows the devices; Core carries
	// requests to them. All are needed.
	Ops    *ops.Tenant
	Roster *roster.Roster
	Core   *nats.Conn
	// Others know the devices of the tenant's other shards, if it has several.
	Others []*roster.Roster
	// Proof is the tenant's key, by which edges know who asks.
	Proof *proof.Key
	// Intake takes messages. Needed.
	Intake Intake
	// Codes makes an enrolment code, Issue a device's token; nil where the keys
	// are not at hand.
	Codes func(ctx context.Context, want enroll.Code) (*enroll.Code, error)
	Issue func(a subjects.Address, opts auth.DeviceOptions) (token string, err error)
	// Publish stores a message of a topic, of which a service is the publisher.
	Publish func(ctx context.Context, p *Publication) (seq uint64, duplicate bool, err error)
}

// Intake takes messages; [send.Intake] is that of a shard.
type Intake interface {
	Start(ctx context.Context, from send.From, e *wire.Envelope, w send.Waiter)
}

// Directory lists the tenant's devices.
func (t *Tenant) Directory() *ops.Directory {
	return ops.NewDirectory(append([]*roster.Roster{t.Roster}, t.Others...)...)
}

// Publication is a message of a topic.
type Publication struct {
	Service, Subject string
	ID               string // may be empty
	Traceparent      string // its place in a trace; may be empty
	Data             []byte
}

// remoteHost is where a request comes from.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
