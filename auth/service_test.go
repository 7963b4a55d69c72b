package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// A service asks and answers with a NATS client as it comes, and is found as a
// micro service is.
func TestServiceAsksAndAnswers(t *testing.T) {
	t.Parallel()
	i := install(t)
	c := i.service(t)
	sub, err := i.part.Subscribe("rccs.coordinator.sessions", func(m *nats.Msg) { _ = m.Respond([]byte("none")) })
	must(t, sub, err)
	if err := i.part.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for _, style := range []nats.Option{func(*nats.Options) error { return nil }, nats.UseOldRequestStyle()} {
		cred, err := i.keys.IssueService("styles", auth.ServiceOptions{Expires: time.Hour})
		must(t, cred, err)
		answer, err := i.dial(t, cred, "styles", style).Request("rccs.coordinator.sessions", nil, patience)
		if err != nil || string(answer.Data) != "none" {
			t.Errorf("answer %v, %v", answer, err)
		}
	}
	service, err := micro.AddService(c.Conn, micro.Config{Name: "billing", Version: "1.0.0"})
	must(t, service, err)
	defer func() { _ = service.Stop() }()
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if answer, err := i.service(t).Request("$SRV.PING.billing", nil, patience); err != nil {
		t.Errorf("is not found: %v, %v", answer, err)
	}
}

// What RCCS answers a device is for that device: a service neither hears nor
// forges it, nor asks in the device's name.
func TestServiceIsNoDevice(t *testing.T) {
	t.Parallel()
	i := install(t)
	c := i.service(t)
	for _, a := range []subjects.Address{phone, {User: "my.name", Device: "日本/2"}} {
		reply := subjects.ReplyPrefix(a.Key())
		for _, subject := range []string{reply + ".>", reply + ".*", reply + ".x", reply + ".x.y", "_INBOX.*.*.*", "_INBOX.*.*.>"} {
			if c.maySubscribe(t, subject) {
				t.Errorf("may subscribe to %s", subject)
			}
		}
		for _, subject := range []string{reply + ".x", reply + ".x.y", subjects.DeviceEndpoint(a.Key(), "ack"), subjects.DeviceEndpoint(a.Key(), "send")} {
			if c.mayPublish(t, subject) {
				t.Errorf("may publish to %s", subject)
			}
		}
	}
}

// Nothing that RCCS answers a device comes to the services' account.
func TestServiceOverhearsNoReplies(t *testing.T) {
	t.Parallel()
	i := install(t)
	c := i.service(t)
	sub, err := c.SubscribeSync("_INBOX.>")
	must(t, sub, err)
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	last := layout.DeliverPrefix + "_INBOX.last"
	for _, subject := range []string{
		subjects.ReplyPrefix(phone.Key()) + ".x", subjects.ReplyPrefix(phone.Key()) + ".x.y", "_INBOX.alice.x", "_INBOX.x", layout.PartReplyPrefix + ".x", last,
	} {
		if err := i.part.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := sub.NextMsg(patience); err != nil || m.Subject != "_INBOX.last" {
		t.Errorf("hears %v, %v", m, err)
	}
}

// A service reads the streams that are for it, in each of the ways of a
// client, and changes none.
func TestServiceReadsItsStreams(t *testing.T) {
	t.Parallel()
	i := install(t)
	admin, err := jetstream.New(i.part)
	must(t, admin, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, subject := range map[string]string{"RCCS_UP": "rccs.up.>", "RCCS_EVENT": "rccs.event.>", "RCCS_TOPIC": "rccs.topic.>"} {
		made, err := admin.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{subject}, AllowDirect: true})
		must(t, made, err)
	}
	ack, err := admin.Publish(ctx, "rccs.up.alice.phone.order", []byte("one"))
	must(t, ack, err)

	js, err := jetstream.New(i.service(t).Conn)
	must(t, js, err)
	stream, err := js.Stream(ctx, "RCCS_UP")
	must(t, stream, err)
	if msg, err := stream.GetMsg(ctx, 1); err != nil || string(msg.Data) != "one" {
		t.Errorf("direct get: %v, %v", msg, err)
	}
	ordered, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	must(t, ordered, err)
	durable, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "billing", FilterSubject: "rccs.up.*.*.order"})
	must(t, durable, err)
	for what, consumer := range map[string]jetstream.Consumer{"ordered": ordered, "durable": durable} {
		msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
		if err != nil || string(msg.Data()) != "one" {
			t.Fatalf("%s: %v, %v", what, msg, err)
		}
		if what == "durable" {
			if err := msg.DoubleAck(ctx); err != nil {
				t.Errorf("acknowledge: %v", err)
			}
		}
	}
	if ack, err := js.Publish(ctx, "rccs.topic.news", []byte("x")); err != nil || ack.Stream != "RCCS_TOPIC" {
		t.Errorf("publish to a topic: %v, %v", ack, err)
	}
	for what, change := range map[string]func(context.Context) error{
		"delete a message": func(ctx context.Context) error { return stream.DeleteMsg(ctx, 1) },
		"purge":            func(ctx context.Context) error { return stream.Purge(ctx) },
		"delete":           func(ctx context.Context) error { return js.DeleteStream(ctx, "RCCS_UP") },
		"update": func(ctx context.Context) error {
			_, err := js.UpdateStream(ctx, jetstream.StreamConfig{Name: "RCCS_UP", Subjects: []string{"rccs.up.>"}, MaxMsgs: 1})
			return err
		},
		"read inboxes": func(ctx context.Context) error { _, err := js.Stream(ctx, layout.StreamInbox); return err },
	} {
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond) // a refused request is not answered
		if err := change(short); err == nil {
			t.Errorf("may %s", what)
		}
		cancel()
	}
	if left, err := admin.Stream(ctx, "RCCS_UP"); err != nil || left.CachedInfo().State.Msgs != 1 || left.CachedInfo().Config.MaxMsgs == 1 {
		t.Errorf("the stream was changed: %+v, %v", left, err)
	}
}

// A message to a lane that does not exist, or to another subject on which nothing is
// stored, is told to its sender, also to one that asks for no PubAck.
func TestASubjectThatNothingStoresIsToldToTheService(t *testing.T) {
	t.Parallel()
	i := install(t)
	natstest.Streams(t, i.part)
	c := i.service(t)
	for _, subject := range []string{
		"rccs.inbox.alice.phone.urgent", "rccs.inbox.alice.phone.Normal", "rccs.inbox.alice.phone", "rccs.inbox.alice.phone.normal.x",
		"rccs.inbx.alice.phone.normal", "rccs.route.alice", "rccs.later", "rccs.due.alice.phone.normal", "rccs.topics.news", "inbox.alice.phone.normal",
	} {
		if c.mayPublish(t, subject) {
			t.Errorf("nobody is told of a publish to %s", subject)
		}
	}
}

// Push consumers, as older clients make them, deliver where the service listens,
// and are found again.
func TestServiceHasPushConsumers(t *testing.T) {
	t.Parallel()
	i := install(t)
	admin := natstest.Streams(t, i.part)
	store := func(text string) {
		t.Helper()
		ack, err := admin.Publish(t.Context(), "rccs.up.alice.phone.order", []byte(text))
		must(t, ack, err)
	}
	c := i.service(t)
	js, err := c.JetStream() // as older clients do
	must(t, js, err)
	store("one")
	take := func(sub *nats.Subscription, want string) {
		t.Helper()
		m, err := sub.NextMsg(patience)
		if err != nil || string(m.Data) != want {
			t.Fatalf("got %v, %v, want %s", m, err, want)
		}
		if err := m.AckSync(); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := js.SubscribeSync("rccs.up.>")
	take(must(t, sub, err), "one")
	ordered, err := js.SubscribeSync("rccs.up.>", nats.OrderedConsumer())
	if m, err := must(t, ordered, err).NextMsg(patience); err != nil || string(m.Data) != "one" {
		t.Errorf("ordered: %v, %v", m, err)
	}
	queue, err := js.QueueSubscribeSync("rccs.up.>", "workers", nats.Durable("workers"), nats.EnableFlowControl(), nats.IdleHeartbeat(time.Second))
	if err == nil { // the client itself does not have it so
		take(queue, "one")
	}
	durable, err := js.SubscribeSync("rccs.up.>", nats.Durable("billing"), nats.DeliverSubject("_INBOX.billing"))
	take(must(t, durable, err), "one")
	info, err := js.ConsumerInfo(subjects.StreamUp, "billing")
	if must(t, info, err); info.Config.DeliverSubject != "_INBOX.billing" {
		t.Errorf("delivers to %q", info.Config.DeliverSubject)
	}
	c.Close()
	js, err = i.service(t).JetStream() // as older clients do
	must(t, js, err)
	for deadline := time.After(patience); info.PushBound; { // else it is delivered to a client that has gone
		if info, err = js.ConsumerInfo(subjects.StreamUp, "billing"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-deadline:
			t.Fatal("the consumer stays bound")
		default:
		}
	}
	store("two")
	resumed, err := js.SubscribeSync("rccs.up.>", nats.Durable("billing"), nats.DeliverSubject("_INBOX.billing"))
	take(must(t, resumed, err), "two")
}

// A topic is heard once by each who listens, whoever published to it.
func TestServiceHearsATopicOnce(t *testing.T) {
	t.Parallel()
	i := install(t)
	natstest.Streams(t, i.part)
	one, other := i.service(t), i.service(t)
	var subs []*nats.Subscription
	for _, c := range []client{one, other} {
		sub, err := c.SubscribeSync("rccs.topic.>")
		subs = append(subs, must(t, sub, err))
		if err := c.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	for n, c := range []client{one, other, {i.part}} {
		js, err := jetstream.New(c.Conn)
		must(t, js, err)
		for _, topic := range []string{"rccs.topic.news", "rccs.topic.a.b.c"} {
			ack, err := js.Publish(t.Context(), topic, []byte{'0' + byte(n)})
			must(t, ack, err)
		}
	}
	for _, sub := range subs {
		for n := range 3 {
			for _, topic := range []string{"rccs.topic.news", "rccs.topic.a.b.c"} {
				if m, err := sub.NextMsg(patience); err != nil || m.Subject != topic || string(m.Data) != string('0'+rune(n)) {
					t.Fatalf("heard %v, %v, want %d on %s", m, err, n, topic)
				}
			}
		}
		if m, err := sub.NextMsg(50 * time.Millisecond); err == nil {
			t.Errorf("heard %s %s once more", m.Subject, m.Data)
		}
	}
}

// Nobody there to answer is told at once, and so is who is there in several
// parts.
func TestServiceIsAnsweredBySomeAndNone(t *testing.T) {
	t.Parallel()
	i := install(t)
	c := i.service(t)
	for _, subject := range []string{"rccs.rpc.alice.phone.open", "rccs.coordinator.status", "rccs.inbox.a.b.low"} {
		if m, err := c.Request(subject, nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v, %v", subject, m, err)
		}
	}
	const parts = 5
	sub, err := i.part.Subscribe("rccs.rpc.alice.phone.open", func(m *nats.Msg) {
		for range parts {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Rccs-Id": {"x"}}}) // an empty one ends a response, to NATS
		}
	})
	must(t, sub, err)
	if err := i.part.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	inbox := nats.NewInbox()
	heard, err := c.SubscribeSync(inbox)
	must(t, heard, err)
	if err := c.PublishRequest("rccs.rpc.alice.phone.open", inbox, nil); err != nil {
		t.Fatal(err)
	}
	for n := range parts {
		if _, err := heard.NextMsg(patience); err != nil {
			t.Fatalf("part %d: %v", n, err)
		}
	}
}

// A service cancels what is delayed by purging its subject, and not all at once.
func TestServiceCancels(t *testing.T) {
	t.Parallel()
	i := install(t)
	admin := natstest.Streams(t, i.part)
	c := i.service(t)
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	later := func(id string) string {
		t.Helper()
		subject := "rccs.later.alice.phone.low." + id
		m := &nats.Msg{Subject: subject, Header: nats.Header{
			"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).Format(time.RFC3339)}, "Nats-Schedule-Target": {"rccs.due.alice.phone.low"},
		}}
		ack, err := js.PublishMsg(t.Context(), m)
		must(t, ack, err)
		return subject
	}
	one := later("one")
	later("two")
	stream, err := js.Stream(t.Context(), subjects.StreamLater)
	must(t, stream, err)
	for _, filter := range []string{"", ">", "rccs.later.>", "rccs.later.*.phone.low.one", "rccs.due.>"} {
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(filter)); err == nil {
			t.Errorf("%q was purged", filter)
		}
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(one)); err != nil {
		t.Errorf("not cancelled: %v", err)
	}
	left, err := admin.Stream(t.Context(), subjects.StreamLater)
	if must(t, left, err); left.CachedInfo().State.Msgs != 1 {
		t.Errorf("%d left", left.CachedInfo().State.Msgs)
	}
}
