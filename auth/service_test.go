package auth_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

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
		cred, err := i.keys.IssueService("styles", time.Hour)
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

// NATS accepts these subscriptions, and delivers nothing of a device's to them.
func TestServiceOverhearsNoReplies(t *testing.T) {
	t.Parallel()
	i := install(t)
	c := i.service(t)
	user := "_INBOX." + subjects.Escape(string(phone.User))
	for _, pattern := range []string{"_INBOX.>", "_INBOX.*.>", user + ".>"} {
		sub, err := c.SubscribeSync(pattern)
		must(t, sub, err)
		if err := c.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		for _, subject := range []string{subjects.ReplyPrefix(phone.Key()) + ".x", subjects.ReplyPrefix(phone.Key()) + ".x.y", user + ".last"} {
			if err := i.part.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
		}
		for heard := ""; heard != user+".last"; {
			msg, err := sub.NextMsg(patience)
			if err != nil {
				t.Fatalf("%s: not even the last: %v", pattern, err)
			}
			if heard = msg.Subject; heard != user+".last" {
				t.Errorf("%s hears %s", pattern, heard)
			}
		}
		must(t, sub, sub.Unsubscribe())
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
		"read inboxes": func(ctx context.Context) error { _, err := js.Stream(ctx, subjects.StreamInbox); return err },
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

// A message to a lane that there is not is stored nowhere, and its sender told.
func TestUnknownLaneIsToldToTheService(t *testing.T) {
	t.Parallel()
	i := install(t)
	natstest.Streams(t, i.part)
	js, err := jetstream.New(i.service(t).Conn, jetstream.WithDefaultTimeout(patience))
	must(t, js, err)
	if ack, err := js.Publish(t.Context(), "rccs.inbox.alice.phone.urgent", nil, jetstream.WithRetryAttempts(0)); err == nil {
		t.Errorf("stored: %+v", ack)
	}
}
