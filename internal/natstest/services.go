package natstest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
)

// Services gives the server a second account, of services with these names, that
// reaches the streams' account by the imports of [layout.ServiceImports], as a
// tenant's services do. NATS then says who asks: its key is the service's name.
// Everybody else is a user of the streams' account. Stream imports are left out.
func Services(names ...string) Option {
	var b strings.Builder
	b.WriteString("no_auth_user: part\naccounts {\n tenant {\n  jetstream: enabled\n  users: [{user: part, password: part}]\n  exports: [\n")
	for _, i := range layout.ServiceImports() {
		if !i.Heard {
			kind := "Singleton"
			if i.Many > 0 {
				kind = "Stream"
			}
			_, _ = fmt.Fprintf(&b, "   {service: %q, response_type: %s}\n", i.Subject, kind)
		}
	}
	b.WriteString("  ]\n }\n services {\n  users: [\n")
	for _, name := range names {
		_, _ = fmt.Fprintf(&b, "   {user: %q, password: service}\n", name)
	}
	b.WriteString("  ]\n  imports: [\n")
	for _, i := range layout.ServiceImports() {
		if !i.Heard {
			_, _ = fmt.Fprintf(&b, "   {service: {account: tenant, subject: %q}, to: %q, share: %t}\n", i.Subject, i.Local, i.Share)
		}
	}
	b.WriteString("  ]\n }\n}\n")
	return func(s *settings) { s.config = b.String() }
}

// Service connects one of the services of [Services].
func (e *Env) Service(tb testing.TB, name string) *nats.Conn {
	tb.Helper()
	return e.Conn(tb, nats.UserInfo(name, "service"))
}

// configured applies the text of a configuration.
func configured(o *server.Options, text string) error {
	if text == "" {
		return nil
	}
	if err := o.ProcessConfigString(text); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
