package edge_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// frame is what these tests look at in an envelope.
type frame struct {
	Type, ID, Topic, FromDeviceID, Timestamp, Encoding string

	Seq     uint64
	Payload json.RawMessage
}

// answer is what the payloads of ack, error and gap have.
type answer struct {
	OriginalMessageID, Status, Topic, Code string

	Seq, From, To, Next uint64
	Duplicate           bool
	Messages            []json.RawMessage
}

func (d *device) frame() frame {
	d.t.Helper()
	for {
		kind, body := d.Next()
		if kind == "presence" {
			continue // of the user's other devices
		}
		var f frame
		check(d.t, json.Unmarshal([]byte(body), &f))
		return f
	}
}

// ask sends a control message with this payload and reads its answer; what the
// topics send before it is dropped.
func (d *device) ask(kind, id, payload string) (string, answer) {
	d.t.Helper()
	d.Send(`{"type":"` + kind + `","id":"` + id + `","payload":` + payload + `}`)
	for {
		f := d.frame()
		if f.Type == "topic" {
			continue
		}
		var a answer
		check(d.t, json.Unmarshal(f.Payload, &a))
		if a.OriginalMessageID != id {
			d.t.Fatalf("answered %s, want the answer to %s", f.Payload, id)
		}
		return f.Type, a
	}
}

func (d *device) subscribe(payload string) answer {
	d.t.Helper()
	kind, a := d.ask("subscribe", "s", payload)
	if kind != "ack" || a.Status != "success" {
		d.t.Fatalf("subscribe %s: %s %+v", payload, kind, a)
	}
	return a
}

func (d *device) publish(id, payload string) answer {
	d.t.Helper()
	kind, a := d.ask("publish", id, payload)
	if kind != "ack" || a.Status != "accepted" || a.Seq == 0 {
		d.t.Fatalf("publish %s: %s %+v", payload, kind, a)
	}
	return a
}

// named is a device, registered.
func (w *world) named(name string) *device {
	w.t.Helper()
	d := w.dial()
	w.register(d, name)
	if kind, body := d.Next(); kind != "ack" {
		w.t.Fatalf("registered with %s %s", kind, body)
	}
	return d
}

func TestATopicsMessageReachesItsSubscribersAsItWasPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone, desk := w.named("alice/phone"), w.named("bob/desk")
	for _, d := range []*device{phone, desk} {
		if a := d.subscribe(`{"topic":"builds.main"}`); a.Topic != "builds.main" || a.Seq != 0 {
			t.Errorf("subscribed with %+v", a)
		}
	}
	const data = `{"a":1.50,  "b":"\u00e9 é","c":[1e3,null]}`
	phone.Send(`{"type":"publish","id":"p1","timestamp":"2026-01-02T03:04:05Z","payload":{"topic":"builds.main","data":` + data + `}}`)
	var own, others frame
	var a answer
	for range 2 { // its answer and its own copy come in either order
		switch f := phone.frame(); f.Type {
		case "ack":
			check(t, json.Unmarshal(f.Payload, &a))
		default:
			own = f
		}
	}
	others = desk.frame()
	if a.OriginalMessageID != "p1" || a.Status != "accepted" || a.Topic != "builds.main" || a.Seq < layout.FirstTopicSeq || a.Duplicate {
		t.Errorf("answered %+v", a)
	}
	want := frame{
		Type: "topic", ID: "p1", Topic: "builds.main", FromDeviceID: "phone", Seq: a.Seq,
		Timestamp: "2026-01-02T03:04:05Z", Payload: json.RawMessage(data),
	}
	for _, got := range []frame{own, others} {
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestARepeatedPublishIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone, desk := w.named("alice/phone"), w.named("alice/desk")
	desk.subscribe(`{"topic":"t"}`)
	first := phone.publish("p", `{"topic":"t","data":1}`)
	again := phone.publish("p", `{"topic":"t","data":1}`)
	if first.Duplicate || !again.Duplicate || again.Seq != first.Seq {
		t.Errorf("first %+v, then %+v", first, again)
	}
	other := desk.publish("p", `{"topic":"t","data":2}`) // another sender's id
	if other.Duplicate || other.Seq == first.Seq {
		t.Errorf("another device's: %+v", other)
	}
	desk.subscribe(`{"topic":"t","since":0}`)
	for n, seq := range []uint64{first.Seq, other.Seq} {
		if f := desk.frame(); f.Seq != seq || string(f.Payload) != fmt.Sprint(n+1) {
			t.Errorf("got %+v, want seq %d", f, seq)
		}
	}
}

func TestWhatServicesPublishIsShownToDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.named("alice/phone")
	d.subscribe(`{"topic":"a b.c"}`)
	js := natstest.Streams(t, w.env.Conn(t))
	for _, c := range []struct{ body, payload, encoding string }{
		{`{"x":1}`, `{"x":1}`, ""},
		{"not json", `"bm90IGpzb24="`, "base64"},
		{"\xff\x00", `"/wA="`, "base64"},
		{"", "null", ""},
	} {
		header := nats.Header{"Rccs-Id": {"\xffbad"}, "Rccs-Correlation": {"c"}}
		stored, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "rccs.topic.a%20b.c", Data: []byte(c.body), Header: header})
		check(t, err)
		f := d.frame()
		if f.Topic != "a b.c" || f.Seq != stored.Sequence || string(f.Payload) != c.payload || f.Encoding != c.encoding || !strings.HasPrefix(f.FromDeviceID, "service:") {
			t.Errorf("%q came as %+v", c.body, f)
		}
	}
}

func TestSinceSaysWhereASubscriptionBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.named("alice/phone")
	var seqs []uint64
	var middle time.Time
	for n := range 6 {
		if n == 3 {
			middle = time.Now()
		}
		seqs = append(seqs, d.publish(fmt.Sprint("p", n), fmt.Sprintf(`{"topic":"t","data":%d}`, n)).Seq)
	}
	for since, first := range map[string]int{
		"0": 0, fmt.Sprint(seqs[1]): 2, `"last"`: 5, fmt.Sprint(seqs[5]): 6, "null": 6,
		`"` + middle.Format(time.RFC3339Nano) + `"`: 3, `"2001-01-01T00:00:00+02:00"`: 0, `"2999-01-01T00:00:00Z"`: 6,
		`"0001-01-01T00:00:00Z"`: 0, `"1500-01-01T00:00:00Z"`: 0,
	} {
		// A repeat begins anew, in place of the one before.
		if a := d.subscribe(`{"topic":"t","since":` + since + `}`); a.Seq != seqs[len(seqs)-1] {
			t.Errorf("since %s: last is %d", since, a.Seq)
		}
		for _, want := range seqs[first:] {
			if f := d.frame(); f.Type != "topic" || f.Seq != want {
				t.Fatalf("since %s: got %s %d, want %d", since, f.Type, f.Seq, want)
			}
		}
		d.Send(`{"type":"heartbeat","id":"h"}`)
		if f := d.frame(); f.Type != "ack" {
			t.Fatalf("since %s: %s %d came too", since, f.Type, f.Seq)
		}
	}
}

// What was missed is more than is written at a time, of several topics, while
// messages of the inbox wait too.
func TestMuchThatWasMissedComesInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const n = 1000
	js := natstest.Streams(t, w.env.Conn(t))
	for i := range n {
		for _, subject := range []string{"rccs.topic.a", "rccs.topic.b", subjects.Inbox(phone, subjects.Normal)} {
			_, err := js.PublishAsync(subject, fmt.Append(nil, i))
			check(t, err)
		}
	}
	<-js.PublishAsyncComplete()
	d := w.dial()
	w.register(d, "alice/phone")
	for _, topic := range []string{"a", "b"} {
		d.Send(`{"type":"subscribe","id":"s","payload":{"topic":"` + topic + `","since":0}}`)
	}
	const window = 256 // of the inbox: nothing is acknowledged
	for count := map[string]int{}; count["a"] < n || count["b"] < n || count[""] < window; {
		f := d.frame()
		if f.Type == "ack" {
			continue
		}
		if string(f.Payload) != fmt.Sprint(count[f.Topic]) {
			t.Fatalf("topic %q: got %s, want %d", f.Topic, f.Payload, count[f.Topic])
		}
		count[f.Topic]++
	}
}

func TestAfterUnsubscribeNothingComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone, desk := w.named("alice/phone"), w.named("alice/desk")
	phone.subscribe(`{"topic":"a"}`)
	phone.subscribe(`{"topic":"b"}`)
	if kind, a := phone.ask("unsubscribe", "u", `{"topic":"a"}`); kind != "ack" || a.Topic != "a" || a.Status != "success" {
		t.Errorf("answered %s %+v", kind, a)
	}
	if kind, _ := phone.ask("unsubscribe", "u2", `{"topic":"never"}`); kind != "ack" {
		t.Errorf("a topic that was not subscribed to: %s", kind)
	}
	desk.publish("1", `{"topic":"a","data":1}`)
	desk.publish("2", `{"topic":"b","data":2}`)
	if f := phone.frame(); f.Topic != "b" {
		t.Errorf("got %+v", f)
	}
}

func TestTopicsOfAConnectionAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *edge.Options) { o.MaxTopics = 3 })
	d := w.named("alice/phone")
	for n := range 3 {
		d.subscribe(fmt.Sprintf(`{"topic":"t%d"}`, n))
	}
	d.subscribe(`{"topic":"t1"}`) // none more
	if kind, a := d.ask("subscribe", "s", `{"topic":"t3"}`); kind != "error" || a.Code != "RATE_LIMITED" {
		t.Errorf("past the bound: %s %+v", kind, a)
	}
	d.ask("unsubscribe", "u", `{"topic":"t0"}`)
	d.subscribe(`{"topic":"t3"}`)
}

func TestBadTopicRequestsAreAnsweredAndHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.named("alice/phone")
	long := strings.Repeat("x.", subjects.MaxTopic/2) + "yy"
	for _, c := range [][2]string{
		{"subscribe", `{}`},
		{"subscribe", `{"topic":""}`},
		{"subscribe", `{"topic":"a..b"}`},
		{"subscribe", `{"topic":7}`},
		{"subscribe", `"t"`},
		{"subscribe", `null`},
		{"subscribe", `{"topic":"` + long + `"}`},
		{"subscribe", `{"topic":"a\u0000b"}`},
		{"subscribe", `{"topic":"t","since":-1}`},
		{"subscribe", `{"topic":"t","since":1.5}`},
		{"subscribe", `{"topic":"t","since":"first"}`},
		{"subscribe", `{"topic":"t","since":{}}`},
		{"subscribe", `{"topic":"t","since":99999999999999999999}`},
		{"unsubscribe", `{"topic":"."}`},
		{"publish", `{"topic":"t"}`},
		{"publish", `{"data":1}`},
		{"publish", `{"topic":".t","data":1}`},
		{"history", `{}`},
		{"history", `{"topic":"t","limit":0}`},
		{"history", `{"topic":"t","from":"x"}`},
		{"history", `{"inbox":true,"topic":"t"}`},
	} {
		if kind, a := d.ask(c[0], "bad", c[1]); kind != "error" || a.Code != "BAD_MESSAGE" {
			t.Errorf("%s %s: %s %+v", c[0], c[1], kind, a)
		}
	}
	d.subscribe(`{"topic":"*.>"}`)
	w.named("alice/desk").publish("p", `{"topic":"a.b","data":1}`)
	seq := w.named("alice/desk").publish("q", `{"topic":"*.>","data":null}`).Seq
	if f := d.frame(); f.Topic != "*.>" || f.Seq != seq || string(f.Payload) != "null" {
		t.Errorf("got %+v", f)
	}
}

func TestHistoryIsReadInPagesOfWholeEnvelopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.named("alice/phone")
	var seqs []uint64
	for n := range 7 {
		seqs = append(seqs, d.publish(fmt.Sprint("p", n), fmt.Sprintf(`{"topic":"t","data":%d}`, n)).Seq)
	}
	got, from := 0, uint64(0)
	for pages := 1; ; pages++ {
		kind, a := d.ask("history", "h", fmt.Sprintf(`{"topic":"t","from":%d,"limit":3}`, from))
		if kind != "ack" {
			t.Fatalf("answered %s %+v", kind, a)
		}
		for _, raw := range a.Messages {
			var f frame
			check(t, json.Unmarshal(raw, &f))
			if f.Type != "topic" || f.Seq != seqs[got] || f.ID != fmt.Sprint("p", got) || string(f.Payload) != fmt.Sprint(got) {
				t.Errorf("message %d is %s", got, raw)
			}
			got++
		}
		if from = a.Next; from == 0 {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if got != len(seqs) {
		t.Errorf("%d messages", got)
	}
	if kind, a := d.ask("history", "h", `{"topic":"empty"}`); kind != "ack" || len(a.Messages) != 0 || a.Messages == nil || a.Next != 0 {
		t.Errorf("of nothing: %s %+v", kind, a)
	}
}

// A subscriber that was away for longer than the stream goes back gets a gap
// in place of what is gone, and what is left behind it.
func TestASubscriberHearsOfAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.named("alice/phone")
	var seqs []uint64
	for n := range 6 {
		seqs = append(seqs, d.publish(fmt.Sprint("p", n), `{"topic":"t","data":1}`).Seq)
	}
	// So much comes after them that the edge has them in memory no more.
	desk := w.named("alice/desk")
	desk.subscribe(`{"topic":"end"}`)
	js := natstest.Streams(t, w.env.Conn(t))
	for range 4200 {
		_, err := js.PublishAsync("rccs.topic.noise", []byte("1"), jetstream.WithStallWait(30*time.Second))
		check(t, err)
	}
	<-js.PublishAsyncComplete()
	desk.Send(`{"type":"publish","id":"end","payload":{"topic":"end","data":1}}`)
	if one, two := desk.frame(), desk.frame(); one.Type != "topic" && two.Type != "topic" {
		t.Fatalf("got %+v and %+v", one, two)
	}
	stream, err := js.Stream(t.Context(), subjects.StreamTopic)
	check(t, err)
	check(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(seqs[4])))
	d.subscribe(fmt.Sprintf(`{"topic":"t","since":%d}`, seqs[1]))
	f := d.frame()
	var gap answer
	check(t, json.Unmarshal(f.Payload, &gap))
	if f.Type != "gap" || f.FromDeviceID != "server" || gap.Topic != "t" || gap.From != seqs[2] || gap.To != seqs[3] {
		t.Errorf("got %s %s", f.Type, f.Payload)
	}
	for _, want := range seqs[4:] {
		if f := d.frame(); f.Seq != want {
			t.Errorf("got %s %d, want %d", f.Type, f.Seq, want)
		}
	}
}

// issuer makes credentials whose permissions a keystore does not know.
type issuer struct {
	t       *testing.T
	account nkeys.KeyPair
}

func newIssuer(t *testing.T) (*issuer, *auth.Verifier) {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	check(t, err)
	account, err := nkeys.CreateAccount()
	check(t, err)
	key, err := account.PublicKey()
	check(t, err)
	token, err := jwt.NewAccountClaims(key).Encode(operator)
	check(t, err)
	verifier, err := auth.NewVerifier(token)
	check(t, err)
	return &issuer{t, account}, verifier
}

// registration of alice/phone with these permissions.
func (i *issuer) registration(publish, subscribe []string) string {
	i.t.Helper()
	user, err := nkeys.CreateUser()
	check(i.t, err)
	key, err := user.PublicKey()
	check(i.t, err)
	claims := jwt.NewUserClaims(key)
	claims.Name, claims.BearerToken = "alice/phone", true
	claims.Expires = time.Now().Add(time.Hour).Unix()
	claims.Pub.Allow.Add(publish...)
	claims.Sub.Allow.Add(subscribe...)
	token, err := claims.Encode(i.account)
	check(i.t, err)
	return `{"type":"device_register","id":"r","payload":{"authToken":"` + token + `"}}`
}

func TestACredentialThatNamesTopicsAllowsNoOthers(t *testing.T) {
	t.Parallel()
	issuer, verifier := newIssuer(t)
	w := newWorld(t, func(o *edge.Options) { o.Verifier = verifier })
	d := w.dial()
	d.Send(issuer.registration([]string{"rccs.topic.mine.>"}, []string{"rccs.topic.mine.>", "rccs.topic.news"}))
	if kind, body := d.Next(); kind != "ack" {
		t.Fatalf("registered with %s", body)
	}
	for _, c := range []struct {
		kind, payload string
		allowed       bool
	}{
		{"subscribe", `{"topic":"news"}`, true},
		{"subscribe", `{"topic":"mine.a.b"}`, true},
		{"subscribe", `{"topic":"mine"}`, false},
		{"subscribe", `{"topic":"secret"}`, false},
		{"subscribe", `{"topic":"mine.>"}`, true}, // a name like any other
		{"subscribe", `{"topic":">"}`, false},
		{"history", `{"topic":"news"}`, true},
		{"history", `{"topic":"secret"}`, false},
		{"history", `{"inbox":true}`, true},
		{"publish", `{"topic":"mine.a","data":1}`, true},
		{"publish", `{"topic":"news","data":1}`, false},
	} {
		kind, a := d.ask(c.kind, "x", c.payload)
		if allowed := kind == "ack"; allowed != c.allowed || !allowed && a.Code != "PERMISSION_DENIED" {
			t.Errorf("%s %s: %s %+v", c.kind, c.payload, kind, a)
		}
	}
}

// A renewal that allows less ends what is not allowed any more.
func TestARenewalChangesWhatIsAllowed(t *testing.T) {
	t.Parallel()
	issuer, verifier := newIssuer(t)
	w := newWorld(t, func(o *edge.Options) { o.Verifier = verifier })
	d := w.dial()
	d.Send(issuer.registration(nil, nil))
	if kind, body := d.Next(); kind != "ack" {
		t.Fatalf("registered with %s", body)
	}
	d.subscribe(`{"topic":"a"}`)
	d.subscribe(`{"topic":"b"}`)
	d.Send(issuer.registration(nil, []string{"rccs.topic.b"}))
	if kind, body := d.Next(); kind != "ack" {
		t.Fatalf("renewed with %s", body)
	}
	if kind, body := d.Next(); kind != "error" || !strings.Contains(body, "PERMISSION_DENIED") || !strings.Contains(body, "topic a") {
		t.Errorf("told %s", body)
	}
	if kind, a := d.ask("subscribe", "s", `{"topic":"a"}`); kind != "error" || a.Code != "PERMISSION_DENIED" {
		t.Errorf("again: %s %+v", kind, a)
	}
	d.Send(`{"type":"publish","id":"1","payload":{"topic":"a","data":1}}`)
	if f := d.frame(); f.Type != "ack" {
		t.Errorf("got %+v", f)
	}
	d.Send(`{"type":"publish","id":"2","payload":{"topic":"b","data":1}}`)
	if one, two := d.frame(), d.frame(); one.Topic != "b" && two.Topic != "b" {
		t.Errorf("got %+v and %+v", one, two)
	}
}
