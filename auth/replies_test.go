package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// NATS sends an answer wherever the requester wants it, with the server's own
// rights. The tests of this file hold what a credential gains by that: nothing,
// or what docs/security.md lists as open. When one of the latter fails because the
// gap is closed, turn it round and change the page.

// gap is an installation with something in bob's inbox, and its streams.
type gap struct {
	*installation
	js  jetstream.JetStream
	ctx context.Context //nolint:containedctx // of the test
	bob string          // his inbox
}

func newGap(t *testing.T) *gap {
	t.Helper()
	i := install(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	bob := subjects.Address{User: "bob", Device: "phone"}.Key()
	g := &gap{installation: i, js: natstest.Streams(t, i.part), ctx: ctx, bob: subjects.Inbox(bob, subjects.Normal)}
	ack, err := g.js.Publish(ctx, g.bob, []byte(`"secret"`))
	must(t, ack, err)
	return g
}

// stored is how many messages a stream has under a subject, -1 if there is no
// such stream.
func (g *gap) stored(t *testing.T, stream, subject string) int {
	t.Helper()
	s, err := g.js.Stream(g.ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return -1
	}
	must(t, s, err)
	info, err := s.Info(g.ctx, jetstream.WithSubjectFilter(subject))
	if errors.Is(err, jetstream.ErrStreamNotFound) { // deleted just now
		return -1
	}
	must(t, info, err)
	return int(info.State.Subjects[subject])
}

// becomes waits until a stream has n messages under a subject.
func (g *gap) becomes(t *testing.T, stream, subject string, n int) {
	t.Helper()
	deadline := time.After(patience)
	for got := g.stored(t, stream, subject); got != n; got = g.stored(t, stream, subject) {
		select {
		case <-deadline:
			t.Fatalf("%s has %d under %s, want %d", stream, got, subject, n)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Whatever a service asks, of JetStream or of others, and wherever it wants the
// answer, it does not come to a subject of the tenant's account. Each way is
// tried with each body that would do harm. (Into an inbox a service may write
// in any case.)
func TestAServiceReachesNothingByAnAnswer(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.service(t)
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	stream, err := js.Stream(g.ctx, subjects.StreamTopic)
	must(t, stream, err)
	inbox := nats.NewInbox() + ".x"
	heard, err := c.SubscribeSync(inbox)
	must(t, heard, err)
	create, err := json.Marshal(map[string]any{"stream_name": layout.StreamInbox, "config": map[string]any{
		"name": "reader", "deliver_subject": inbox, "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant",
	}})
	must(t, create, err)
	record := layout.DeviceSubject(phone.Key())
	for to, body := range map[string][]byte{
		"$JS.API.CONSUMER.CREATE." + layout.StreamInbox + ".reader": create,
		"$JS.API.STREAM.PURGE." + layout.StreamInbox:                nil,
		"$JS.API.STREAM.DELETE." + layout.StreamAudit:               nil,
		layout.GuardedAPI("STREAM.PURGE." + subjects.StreamLater):   []byte(`{"filter":"rccs.later.x.y"}`),
		record:                                []byte(`{}`),
		subjects.Event(phone.Key(), "online"): []byte(`{}`),
	} {
		g.tryAnswers(t, c, stream, to, body)
	}
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	// What the server would have published comes before what is published now.
	ack, err := g.js.Publish(g.ctx, g.bob, []byte(`"last"`))
	must(t, ack, err)
	for what, n := range map[string]int{
		"messages in an inbox": g.stored(t, layout.StreamInbox, g.bob) - 2,
		"records of a device":  g.stored(t, "KV_"+layout.BucketDevices, record),
		"events":               g.stored(t, subjects.StreamEvent, subjects.Event(phone.Key(), "online")),
		"records of acts":      g.stored(t, layout.StreamAudit, layout.AllAudits()),
	} {
		if n != 0 {
			t.Errorf("%s: %d more or fewer", what, n)
		}
	}
	inboxes, err := g.js.Stream(g.ctx, layout.StreamInbox)
	must(t, inboxes, err)
	if _, err := inboxes.Consumer(g.ctx, "reader"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("a consumer of the inboxes was made: %v", err)
	}
	if m, err := heard.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("it reads %s: %s", m.Subject, m.Data)
	}
}

// tryAnswers has the service ask, in each way there is, for an answer to a
// subject, with a body that the service has written where it can.
func (g *gap) tryAnswers(t *testing.T, c client, stream jetstream.Stream, to string, body []byte) {
	t.Helper()
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	ack, err := js.Publish(g.ctx, "rccs.topic.orders", body)
	must(t, ack, err)
	ask := func(subject string, data []byte, header nats.Header) {
		t.Helper()
		if err := c.PublishMsg(&nats.Msg{Subject: subject, Reply: to, Data: data, Header: header}); err != nil {
			t.Fatal(err)
		}
	}
	api, topics := "$JS.API.", subjects.StreamTopic
	ask(api+"DIRECT.GET."+topics+".rccs.topic.orders", nil, nil)
	ask(api+"DIRECT.GET."+topics, []byte(`{"last_by_subj":"rccs.topic.orders"}`), nil)
	ask(api+"DIRECT.GET."+topics, []byte(`{"batch":5,"seq":1,"next_by_subj":"rccs.topic.orders"}`), nil)
	for _, subject := range []string{
		api + "INFO", api + "STREAM.NAMES", api + "STREAM.LIST", api + "STREAM.INFO." + topics, api + "CONSUMER.NAMES." + topics,
		api + "CONSUMER.LIST." + topics, api + "CONSUMER.INFO." + topics + ".x", api + "CONSUMER.DELETE." + topics + ".x",
		api + "STREAM.PURGE." + subjects.StreamLater, "$SRV.PING", "rccs.coordinator.status", "rccs.rpc.alice.phone.x",
		"rccs.inbox.carol.phone.low", "rccs.topic.others", "rccs.signal.carol.phone", "rccs.route.carol.all",
	} {
		ask(subject, body, nil)
	}
	// A fast batch is answered on its reply subject, of which the end says so, and
	// which NATS passes on beside the one of its own.
	if err := c.PublishMsg(&nats.Msg{Subject: "rccs.inbox.carol.phone.low", Reply: to + ".batch.1.fail.1.0.$FI", Header: nats.Header{"Nats-Request-Info": {`{"reply":"` + to + `"}`}}, Data: body}); err != nil {
		t.Fatal(err)
	}
	for _, header := range []nats.Header{{"Nats-Trace-Dest": {to}}, {"Nats-Trace-Dest": {to}, "Nats-Trace-Only": {"true"}}} {
		ask("rccs.inbox.carol.phone.low", body, header)
	}
	// Pull consumers deliver to the reply subject, also of an acknowledgement.
	pull, err := stream.CreateOrUpdateConsumer(g.ctx, jetstream.ConsumerConfig{Durable: "pull", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, pull, err)
	ask(api+"CONSUMER.MSG.NEXT."+topics+".pull", []byte(`{"batch":3,"no_wait":true}`), nil)
	m, err := pull.Next(jetstream.FetchMaxWait(patience))
	must(t, m, err)
	ask(m.Reply(), []byte("+NXT"), nil)
	ask(m.Reply(), []byte("+ACK"), nil)
	// A reply below JetStream's acknowledgements is left as it is.
	if err := c.PublishRequest(api+"DIRECT.GET."+topics+".rccs.topic.orders", "$JS.ACK."+to, nil); err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteConsumer(g.ctx, "pull"); err != nil {
		t.Fatal(err)
	}
	// Push consumers deliver to a subject of their own.
	for n, name := range []string{"deliver_subject", "Deliver_Subject", "DELIVER_SUBJECT"} {
		for _, config := range []string{"config", "Config"} {
			request, err := json.Marshal(map[string]any{"stream_name": topics, config: map[string]any{
				"name": "push", "durable_name": "push", name: to, "deliver_policy": "last", "ack_policy": "none", "replay_policy": "instant",
				"filter_subject": "rccs.topic.orders",
			}})
			must(t, request, err)
			for _, subject := range []string{"CONSUMER.CREATE." + topics, "CONSUMER.CREATE." + topics + ".push", "CONSUMER.DURABLE.CREATE." + topics + ".push"} {
				answer, err := c.RequestWithContext(g.ctx, api+subject, request)
				if must(t, answer, err); !bytes.Contains(answer.Data, []byte(`"error"`)) {
					t.Errorf("%d: a consumer that delivers to %s: %s", n, to, answer.Data)
				}
			}
		}
	}
}

// The name of the requester that NATS adds when a request crosses accounts cannot
// be written by the requester.
func TestAServiceAsksAsNobodyElse(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.service(t)
	for _, account := range []string{g.keys.System().PublicKey, "nobody"} {
		forged := `{"acc":"` + account + `","svc":"` + account + `"}`
		for _, header := range []nats.Header{
			{"Nats-Request-Info": {forged}}, {"Nats-Request-Info": {forged, forged}}, {"A-Nats-Request-Info": {"x"}, "Nats-Request-Info": {forged}},
		} {
			answer, err := c.RequestMsgWithContext(g.ctx, &nats.Msg{Subject: "$JS.API.STREAM.NAMES", Header: header})
			if must(t, answer, err); !bytes.Contains(answer.Data, []byte(subjects.StreamTopic)) {
				t.Errorf("asked as %s: %s", forged, answer.Data)
			}
		}
	}
}

// The edges' own consumers are on a stream of which services may make and delete
// consumers. A service that knew one could have all devices of an edge miss topics.
func TestAServiceFindsNoConsumerOfRCCS(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	heard := make(chan string, 1)
	own, err := reader.New(reader.Options{
		Conn: g.part, Stream: subjects.StreamTopic, Heartbeat: time.Second,
		Handle: func(e reader.Entry) { heard <- e.Subject },
	})
	must(t, own, err)
	if err := own.Start(g.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Stop(context.WithoutCancel(t.Context())) })
	stream, err := g.js.Stream(g.ctx, subjects.StreamTopic)
	must(t, stream, err)
	names := stream.ConsumerNames(g.ctx)
	name := <-names.Name()

	c := g.service(t)
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	theirs, err := js.Stream(g.ctx, subjects.StreamTopic)
	must(t, theirs, err)
	made, err := theirs.CreateOrUpdateConsumer(g.ctx, jetstream.ConsumerConfig{Durable: "billing"})
	must(t, made, err)
	listed := theirs.ConsumerNames(g.ctx)
	for found := range listed.Name() {
		if found != "billing" {
			t.Errorf("lists the name %s", found)
		}
	}
	infos := theirs.ListConsumers(g.ctx)
	for found := range infos.Info() {
		if found.Name != "billing" {
			t.Errorf("lists %s", found.Name)
		}
	}
	if err := errors.Join(listed.Err(), infos.Err()); err != nil {
		t.Error(err)
	}
	// Nor can one that knows the name change it.
	if err := theirs.DeleteConsumer(g.ctx, name); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("deletes it: %v", err)
	}
	if info, err := theirs.Consumer(g.ctx, name); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("looks it up: %v, %v", info, err)
	}
	if _, err := theirs.CreateOrUpdateConsumer(g.ctx, jetstream.ConsumerConfig{Name: name, FilterSubject: "rccs.topic.other"}); err == nil {
		t.Error("changes it")
	}
	if err := theirs.DeleteConsumer(g.ctx, "billing"); err != nil {
		t.Error(err)
	}
	ack, err := js.Publish(g.ctx, "rccs.topic.news", nil)
	must(t, ack, err)
	select {
	case <-heard:
	case <-g.ctx.Done():
		t.Error("the reader does not hear the topic")
	}
}

// later has the service store a delayed message.
func (g *gap) later(t *testing.T, c client, subject string, header nats.Header, body string) error {
	t.Helper()
	js, err := jetstream.New(c.Conn)
	must(t, js, err)
	_, err = js.PublishMsg(g.ctx, &nats.Msg{Subject: subject, Header: header, Data: []byte(body)})
	return err
}

// What is delayed comes to an inbox, when its time has come, and to no other
// subject. A header that has a message take the place of all others does not.
func TestADelayedMessageComesToAnInboxOnly(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.service(t)
	at := time.Now().Add(time.Hour).Format(time.RFC3339)
	for _, to := range []string{
		g.bob, "$JS.API.STREAM.PURGE." + layout.StreamInbox, subjects.Event(phone.Key(), "online"), layout.DeviceSubject(phone.Key()),
		"rccs.due.>", "rccs.due.*.phone.low", "rccs.due.a.b.c.d", "rccs.api.STREAM.PURGE." + subjects.StreamLater,
	} {
		if err := g.later(t, c, "rccs.later.x.phone.low.one", nats.Header{"Nats-Schedule": {"@at " + at}, "Nats-Schedule-Target": {to}}, ""); err == nil {
			t.Errorf("may come to %s", to)
		}
	}
}

// On the stream of delayed messages a header can take the body from another
// message, for whomever that is, and another remove all others. A service's do
// neither.
func TestADelayedMessageTouchesNoOther(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.service(t)
	const secret = "rccs.later.bob.phone.low.one"
	inAnHour := nats.Header{"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).Format(time.RFC3339)}, "Nats-Schedule-Target": {"rccs.due.bob.phone.low"}}
	if err := g.later(t, c, secret, inAnHour, `"secret"`); err != nil {
		t.Fatal(err)
	}
	const mine = "rccs.later.carol.phone.low.one"
	now := nats.Header{"Nats-Schedule": {"@at " + time.Now().Format(time.RFC3339)}, "Nats-Schedule-Target": {"rccs.due.carol.phone.low"}}
	for key, value := range map[string]string{
		"Nats-Rollup": "all", "nats-rollup": "all", "Nats-Schedule-Source": secret, "NATS-Schedule-Source": secret, "Nats-Schedule-TTL": "1s", "Nats-TTL": "1s",
		"Nats-Batch-Id": "x", "Nats-Incr": "1",
	} {
		h := maps.Clone(now)
		h[key] = []string{value}
		if err := g.later(t, c, mine, h, ""); err == nil {
			t.Errorf("%s: %s was taken", key, value)
		}
	}
	if n := g.stored(t, subjects.StreamLater, secret); n != 1 {
		t.Errorf("%d of bob's are left", n)
	}
	// One that has only its own headers comes, as it was.
	h := maps.Clone(now)
	h["Nats-Msg-Id"], h["Rccs-Type"] = []string{"once"}, []string{"note"}
	for range 2 { // the second is a repeat
		if err := g.later(t, c, mine, h, `"hello"`); err != nil {
			t.Fatal(err)
		}
	}
	inbox := subjects.Inbox(subjects.Address{User: "carol", Device: "phone"}.Key(), subjects.Low)
	g.becomes(t, layout.StreamInbox, inbox, 1)
	stream, err := g.js.Stream(g.ctx, layout.StreamInbox)
	must(t, stream, err)
	if m, err := stream.GetLastMsgForSubject(g.ctx, inbox); err != nil || string(m.Data) != `"hello"` || m.Header.Get("Rccs-Type") != "note" {
		t.Errorf("got %v, %v", m, err)
	}
}

// RCCS gives no device a right to publish to a stream. Who gives one by another
// tool lets it put JetStream's acknowledgement, a line of JSON, anywhere.
func TestOpen_ADeviceWithAnAddedRightToPublishWritesToAnInbox(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.dial(t, g.added(t, subjects.TopicPrefix+"news"), "added")
	if err := c.PublishRequest("rccs.topic.news", g.bob, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, layout.StreamInbox, g.bob, 2)
}

// What a device may publish, it may have neither answered nor traced into an
// inbox: nobody answers it but RCCS, and NATS asks whether the device itself may
// publish where a trace is to go.
func TestADevicesRequestPutsNothingElsewhere(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	c := g.device(t, phone)
	for _, to := range []string{g.bob, layout.Cursor(phone.Key()), "$JS.API.STREAM.PURGE." + layout.StreamInbox} {
		for _, header := range []nats.Header{nil, {"Nats-Trace-Dest": {to}}, {"Nats-Trace-Dest": {to}, "Nats-Trace-Only": {"true"}}} {
			for _, endpoint := range []string{"fetch", "ack", "send", "up", "none"} {
				m := &nats.Msg{Subject: subjects.DeviceEndpoint(phone.Key(), endpoint), Reply: to, Header: header, Data: []byte("{}")}
				if err := c.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	// What the server would have published comes before what is published now.
	ack, err := g.js.Publish(g.ctx, g.bob, []byte(`"last"`))
	must(t, ack, err)
	if inbox, cursors := g.stored(t, layout.StreamInbox, g.bob), g.stored(t, layout.StreamCursor, layout.Cursor(phone.Key())); inbox != 2 || cursors != 0 {
		t.Errorf("%d messages in the inbox, want 2, and %d in the cursor, want none", inbox, cursors)
	}
}

// added is a device's credential as RCCS makes it, with one more right to
// publish: what another tool that has the signing key can make.
func (g *gap) added(t *testing.T, right string) auth.Credential {
	t.Helper()
	cred := issue(t, g.keys, phone, auth.DeviceOptions{})
	seed, err := os.ReadFile(filepath.Join(g.keys.Dir(), "default-signing.nk"))
	must(t, seed, err)
	signer, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	must(t, signer, err)
	claims := decodeUser(t, cred.JWT)
	claims.Pub.Allow.Add(right)
	token, err := claims.Encode(signer)
	cred.JWT = must(t, token, err)
	return cred
}

// A part may do anything: the record of what operators did is safe from removal
// of its messages, not from that of the whole stream.
func TestOpen_APartCanDeleteTheWholeRecord(t *testing.T) {
	t.Parallel()
	g := newGap(t)
	if err := g.js.DeleteStream(g.ctx, layout.StreamAudit); err != nil {
		t.Errorf("it cannot: %v", err)
	}
}
