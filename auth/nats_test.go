package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/guard"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// installation is a keystore and a NATS server that trusts its operator, with
// the streams of RCCS.
type installation struct {
	keys *auth.Keystore
	env  *natstest.Env
	part *nats.Conn // may do anything in the tenant's account
}

func install(t testing.TB, configure ...func(*server.Options)) *installation {
	t.Helper()
	i := &installation{keys: open(t, t.TempDir())}
	opts := []natstest.Option{natstest.Listen(), natstest.Configure(func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		for _, account := range []auth.Account{i.keys.Account(), i.keys.System()} {
			if err := resolver.Store(account.PublicKey, account.JWT); err != nil {
				t.Fatal(err)
			}
			if account.Services == "" {
				continue
			}
			claims, err := jwt.DecodeAccountClaims(account.Services)
			if err := resolver.Store(must(t, claims, err).Subject, account.Services); err != nil {
				t.Fatal(err)
			}
		}
		o.TrustedOperators = []*jwt.OperatorClaims{i.keys.Operator()}
		o.SystemAccount = i.keys.System().PublicKey
		o.AccountResolver = resolver
	})}
	for _, f := range configure {
		opts = append(opts, natstest.Configure(f))
	}
	i.env = natstest.Server(t, opts...)
	cred, err := i.keys.IssuePart("edge")
	must(t, cred, err)
	i.part = i.dial(t, cred, "edge").Conn
	watch, err := guard.Start(i.part, guard.Options{Logger: slog.New(slog.DiscardHandler)})
	must(t, watch, err)
	t.Cleanup(func() { watch.Stop(context.WithoutCancel(t.Context())) })
	return i
}

// client is a connection that asks what it may do.
type client struct{ *nats.Conn }

func (i *installation) dial(t testing.TB, cred auth.Credential, name string, opts ...nats.Option) client {
	t.Helper()
	return client{natstest.Dial(t, i.env.URL(), append([]nats.Option{
		cred.Option(), nats.Name(name),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default one prints
	}, opts...)...)}
}

func (i *installation) device(t *testing.T, a subjects.Address) client {
	t.Helper()
	return i.dial(t, issue(t, i.keys, a, auth.DeviceOptions{}), a.String(),
		nats.CustomInboxPrefix(subjects.ReplyPrefix(a.Key())))
}

func (i *installation) service(t testing.TB) client {
	t.Helper()
	cred, err := i.keys.IssueService("billing", auth.ServiceOptions{Expires: time.Hour})
	return i.dial(t, must(t, cred, err), "billing")
}

const patience = testkit.Patience

// mayPublish reports whether the server lets the connection publish.
func (c client) mayPublish(t *testing.T, subject string) bool {
	t.Helper()
	if err := c.Publish(subject, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return c.allowed(t, "Publish", subject)
}

// maySubscribe is the same for subscriptions.
func (c client) maySubscribe(t *testing.T, subject string) bool {
	t.Helper()
	sub, err := c.SubscribeSync(subject)
	must(t, sub, err)
	defer func() { _ = sub.Unsubscribe() }()
	return c.allowed(t, "Subscription", subject)
}

// allowed reports whether the last thing done was not refused: a refusal comes
// before the answer to the flush, and stays the connection's last error.
func (c client) allowed(t *testing.T, verb, subject string) bool {
	t.Helper()
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	err := c.LastError()
	refused := errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), fmt.Sprintf("%s to %q", verb, subject))
	return !refused
}

func TestDeviceMayUseItsOwnSubjectsOnly(t *testing.T) {
	t.Parallel()
	i := install(t)
	me := subjects.Address{User: "alice", Device: "my.phone"}
	c := i.device(t, me)
	mine := me.Key()

	for _, subject := range []string{subjects.Signal(mine), subjects.ReplyPrefix(mine) + ".x", subjects.ReplyPrefix(mine) + ".>"} {
		if !c.maySubscribe(t, subject) {
			t.Errorf("may not subscribe to %s", subject)
		}
	}
	for _, endpoint := range []string{"fetch", "ack", "send", "up"} {
		if subject := subjects.DeviceEndpoint(mine, endpoint); !c.mayPublish(t, subject) {
			t.Errorf("may not call %s", subject)
		}
	}
	for _, other := range []subjects.Address{
		{User: "alice", Device: "my"}, {User: "alice", Device: "tablet"}, {User: "bob", Device: "my.phone"},
	} {
		key := other.Key()
		for _, subject := range []string{
			subjects.Signal(key), subjects.ReplyPrefix(key) + ".>", subjects.ReplyPrefix(key) + ".x", subjects.Inbox(key, subjects.Normal),
		} {
			if c.maySubscribe(t, subject) {
				t.Errorf("may subscribe to %s", subject)
			}
		}
		for _, subject := range []string{
			subjects.DeviceEndpoint(key, "ack"), subjects.Inbox(key, subjects.High), subjects.Signal(key),
			subjects.ReplyPrefix(key) + ".x", layout.Cursor(key), layout.DeviceSubject(key),
		} {
			if c.mayPublish(t, subject) {
				t.Errorf("may publish to %s", subject)
			}
		}
	}
	for _, subject := range []string{
		">", "*.>", "rccs.>", "rccs.signal.>", "rccs.signal.alice.*", "_INBOX.>", "_INBOX.alice.>", "rccs.inbox.>", "rccs.up.>", "$SYS.>", "$JS.>",
		subjects.Inbox(mine, subjects.Normal),
	} {
		if c.maySubscribe(t, subject) {
			t.Errorf("may subscribe to %s", subject)
		}
	}
	for _, subject := range []string{
		subjects.Inbox(mine, subjects.Normal), "rccs.inbox.alice.my%2Ephone.low", subjects.Signal(mine), layout.Cursor(mine), "rccs.up.alice.my%2Ephone.x",
		"rccs.coordinator.other", subjects.DeviceEndpoint(mine, "a.b"), "$JS.API.INFO", "$JS.API.STREAM.PURGE." + layout.StreamInbox, "$SRV.PING",
	} {
		if c.mayPublish(t, subject) {
			t.Errorf("may publish to %s", subject)
		}
	}
}

// A device asks its endpoint of the coordinator and hears the answer, and its
// signals: the permissions are enough for what they are for.
func TestDeviceIsServedWithinItsPermissions(t *testing.T) {
	t.Parallel()
	i := install(t)
	for _, me := range []subjects.Address{phone, {User: "Jürgen <j@x>", Device: "日本 phone/2"}} {
		c := i.device(t, me)
		endpoint := subjects.DeviceEndpoint(me.Key(), "fetch")
		sub, err := i.part.Subscribe(endpoint, func(m *nats.Msg) { _ = m.Respond([]byte("answer")) })
		must(t, sub, err)
		if err := i.part.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		answer, err := c.Request(endpoint, nil, patience)
		if err != nil || string(answer.Data) != "answer" {
			t.Fatalf("%v: answer %v, %v", me, answer, err)
		}
		signals, err := c.SubscribeSync(subjects.Signal(me.Key()))
		must(t, signals, err)
		if err := c.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		if err := i.service(t).Publish(subjects.Signal(me.Key()), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if msg, err := signals.NextMsg(patience); err != nil || string(msg.Data) != "hello" {
			t.Fatalf("%v: signal %v, %v", me, msg, err)
		}
	}
}

func TestServiceMayStoreMessagesAndNotTouchStreams(t *testing.T) {
	t.Parallel()
	i := install(t)
	natstest.Streams(t, i.part)
	c := i.service(t)
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := js.Publish(ctx, subjects.Inbox(phone.Key(), subjects.Critical), []byte(`"hello"`))
	if err != nil || ack.Stream != layout.StreamInbox {
		t.Fatalf("publish to an inbox: %+v, %v", ack, err)
	}
	for _, subject := range []string{
		"$JS.API.STREAM.PURGE." + layout.StreamInbox, "$JS.API.STREAM.DELETE." + layout.StreamInbox,
		"$JS.API.STREAM.UPDATE." + layout.StreamInbox, "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.MSG.DELETE." + layout.StreamInbox,
		"$JS.API.STREAM.MSG.GET." + layout.StreamInbox, "$JS.API.CONSUMER.CREATE." + layout.StreamInbox, "$JS.API.DIRECT.GET." + layout.StreamInbox,
		layout.Cursor(phone.Key()), layout.DeviceSubject(phone.Key()), "rccs.up.alice.phone.x", "rccs.event.alice.phone.online", "anything.else",
	} {
		if c.mayPublish(t, subject) {
			t.Errorf("may publish to %s", subject)
		}
	}
	for _, subject := range []string{"rccs.inbox.>", "rccs.cursor.>", "$KV.>", ">", "$SYS.>"} {
		if c.maySubscribe(t, subject) {
			t.Errorf("may subscribe to %s", subject)
		}
	}
	for _, subject := range []string{"rccs.up.*.*.*", "rccs.event.>", "rccs.topic.news"} {
		if !c.maySubscribe(t, subject) {
			t.Errorf("may not subscribe to %s", subject)
		}
	}
}

func TestBearerAndSystemConnect(t *testing.T) {
	t.Parallel()
	i := install(t)
	bearer := issue(t, i.keys, phone, auth.DeviceOptions{Bearer: true})
	nc := natstest.Dial(t, i.env.URL(), nats.UserJWT(
		func() (string, error) { return bearer.JWT, nil },
		func([]byte) ([]byte, error) { return nil, nil }, // it has no seed to sign with
	))
	nc.Close()
	admin, err := i.keys.IssueSystem("admin")
	must(t, admin, err)
	answer, err := i.dial(t, admin, "admin").Request("$SYS.REQ.SERVER.PING", nil, patience)
	if err != nil || len(answer.Data) == 0 {
		t.Errorf("the system account is not told of servers: %v", err)
	}
}

// NATS checks what an edge checks.
func TestNATSRefusesWhatIsNotProven(t *testing.T) {
	t.Parallel()
	i := install(t)
	good := issue(t, i.keys, phone, auth.DeviceOptions{})
	unsigned := good
	unsigned.Seed = issue(t, i.keys, subjects.Address{User: "eve", Device: "phone"}, auth.DeviceOptions{}).Seed
	bare, err := nats.Connect(i.env.URL(), nats.Timeout(patience))
	if err == nil {
		bare.Close()
		t.Error("connected without a credential")
	}
	for what, cred := range map[string]auth.Credential{
		"signed by another key":   unsigned,
		"of another installation": issue(t, open(t, t.TempDir()), phone, auth.DeviceOptions{}),
	} {
		if nc, err := nats.Connect(i.env.URL(), cred.Option(), nats.Timeout(patience)); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("%s: %v", what, err)
		}
	}
}

// NATS bounds the line of CONNECT, token and all, as it does every other: by
// default to 4,096 bytes, which the longest names in other than ASCII exceed.
func TestTokensFitTheLineOfConnect(t *testing.T) {
	t.Parallel()
	long := func(unit string) string { return strings.Repeat(unit, subjects.MaxName/len(unit)) }
	for _, c := range []struct {
		unit string
		line int32
	}{{"a", server.MAX_CONTROL_LINE_SIZE}, {"\u65e5", 2 * server.MAX_CONTROL_LINE_SIZE}, {"<", 2 * server.MAX_CONTROL_LINE_SIZE}} {
		i := install(t, func(o *server.Options) { o.MaxControlLine = c.line })
		i.device(t, subjects.Address{User: subjects.UserID(long(c.unit)), Device: subjects.DeviceID(long(c.unit))})
		cred, err := i.keys.IssueService(long(c.unit), auth.ServiceOptions{Expires: time.Hour})
		i.dial(t, must(t, cred, err), long(c.unit))
	}
}
