package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

// Services hear a topic once, whichever servers they and its publisher are
// connected to, and their requests for consumers are answered on each.
func TestServicesOnEveryServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var conns [servers]*nats.Conn
	var streams [servers]jetstream.JetStream
	var heard [servers]*nats.Subscription
	for s, p := range c.procs[:servers] {
		conns[s], streams[s] = c.service(p)
		sub, err := conns[s].SubscribeSync("rccs.topic.>")
		if err != nil {
			t.Fatal(err)
		}
		heard[s] = sub
		if err := conns[s].FlushWithContext(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// Interest spreads without a word of when: what is said until it is there is
	// not counted.
	for s, sub := range heard {
		eventually(c.t, fmt.Sprintf("server %d hears all", s), func() bool {
			for _, js := range streams {
				if _, err := js.Publish(ctx, "rccs.topic.warm", nil); err != nil {
					return false
				}
			}
			n, _, err := sub.Pending()
			return err == nil && n >= servers
		}, new(string))
	}
	const topics = 20
	var want []string
	for n := range topics {
		for s, js := range streams {
			want = append(want, fmt.Sprintf("%d of %d", n, s))
			if _, err := js.Publish(ctx, "rccs.topic.news", []byte(want[len(want)-1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := streams[0].Publish(ctx, "rccs.topic.last", nil); err != nil {
		t.Fatal(err)
	}
	for s, sub := range heard {
		times := make(map[string]int)
		for last := false; !last; {
			m, err := sub.NextMsgWithContext(ctx)
			if err != nil {
				t.Fatalf("server %d, %v: %v", s, times, err)
			}
			times[string(m.Data)]++
			last = m.Subject == "rccs.topic.last"
		}
		for _, text := range want {
			if times[text] != 1 {
				t.Errorf("on server %d %q was heard %d times", s, text, times[text])
			}
		}
	}
	for s, js := range streams {
		durable := jetstream.ConsumerConfig{Durable: fmt.Sprintf("server%d", s), FilterSubject: "rccs.topic.news", AckPolicy: jetstream.AckExplicitPolicy}
		consumer, err := js.CreateOrUpdateConsumer(ctx, subjects.StreamTopic, durable)
		if err != nil {
			t.Fatal(err)
		}
		for n := range topics * servers {
			var m jetstream.Msg
			state := ""
			eventually(t, fmt.Sprintf("server %d reads %s", s, want[n]), func() bool { // nobody answers while no server leads
				var err error
				m, err = consumer.Next(jetstream.FetchMaxWait(patience))
				state = fmt.Sprint(err)
				return err == nil
			}, &state)
			if string(m.Data()) != want[n] {
				t.Fatalf("server %d reads %s, want %s", s, m.Data(), want[n])
			}
			if err := m.DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conns[s].RequestWithContext(ctx, "rccs.rpc.alice.phone.open", nil); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("server %d, a device that is offline: %v", s, err)
		}
		if answer, err := conns[s].RequestWithContext(ctx, "rccs.coordinator.status", nil); err != nil || len(answer.Data) == 0 {
			t.Errorf("server %d, the coordinator: %v, %v", s, answer, err)
		}
	}
}

// service connects to NATS as a backend service.
func (c *cluster) service(p *proc) (*nats.Conn, jetstream.JetStream) {
	c.t.Helper()
	keys, err := auth.OpenKeystore(c.plan.Data())
	if err != nil {
		c.t.Fatal(err)
	}
	cred, err := keys.IssueService("billing", auth.ServiceOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+p.NATS, cred.Option(), nats.Timeout(patience))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		c.t.Fatal(err)
	}
	return nc, js
}
