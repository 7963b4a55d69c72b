package tracing_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/tracing"
	"github.com/rccs-io/rccs/subjects"
)

// caller is the place in a trace from which a test sends.
const caller = "00-" + traceID + "-" + spanID + "-01"

// installation is a node that records everything, and its collector.
type installation struct {
	*spans
	t    *testing.T
	n    *node.Node
	opts node.Options
}

func install(t *testing.T) *installation {
	t.Helper()
	got, endpoint := collect(t, tracing.GRPC)
	opts := node.Options{
		Data: t.TempDir(), AdminListen: nodetest.AnyPort, NATSListen: nodetest.AnyPort,
		Tracing: tracing.Options{Endpoint: endpoint, Share: 1, Delay: time.Millisecond},
	}
	return &installation{got, t, nodetest.Start(t, opts), opts}
}

// restart starts the node anew, with what is stored.
func (i *installation) restart() {
	i.t.Helper()
	testkit.Check(i.t, i.n.Stop(testkit.Soon(i.t)))
	i.n = nodetest.Start(i.t, i.opts)
}

func (i *installation) device(name, extra string) *devicetest.Device {
	i.t.Helper()
	return nodetest.Register(i.t, i.n.Addr().String(), nodetest.Registering{Token: nodetest.Token(i.t, i.n, name), Extra: extra})
}

// service is a service on plain NATS.
func (i *installation) service() *nats.Conn {
	i.t.Helper()
	cred, err := i.n.Keys().IssueService("billing", auth.ServiceOptions{Expires: time.Hour})
	testkit.Check(i.t, err)
	return i.dial(cred.Option())
}

func (i *installation) dial(opts ...nats.Option) *nats.Conn {
	i.t.Helper()
	nc, err := node.Connect(i.n.NATSURL(), append(opts, nats.Timeout(testkit.Patience))...)
	testkit.Check(i.t, err)
	i.t.Cleanup(nc.Close)
	return nc
}

// publish stores a message of a service, which has its place in a trace.
func (i *installation) publish(nc *nats.Conn, subject, id string) {
	i.t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(i.t, err)
	m := &nats.Msg{Subject: subject, Data: []byte(`{}`), Header: nats.Header{"traceparent": {caller}, "Rccs-Id": {id}, "Rccs-Type": {"note"}}}
	_, err = js.PublishMsg(testkit.Soon(i.t), m)
	testkit.Check(i.t, err)
}

// post sends a request to the HTTP API as an operator, from the test's place.
func (i *installation) post(path, body string) string {
	i.t.Helper()
	req, err := http.NewRequestWithContext(testkit.Soon(i.t), http.MethodPost, "http://"+i.n.AdminAddr().String()+path, strings.NewReader(body))
	testkit.Check(i.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("traceparent", caller)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	testkit.Check(i.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	testkit.Check(i.t, err)
	if resp.StatusCode >= 300 {
		i.t.Fatalf("%s: %s: %s", path, resp.Status, text)
	}
	return string(text)
}

// below waits for the one span of a name that is directly below a place, and
// returns its own place. Its attributes are in want: key, value, and so on.
func (i *installation) below(place, name string, want ...string) string {
	i.t.Helper()
	var found []*otlp.Span
	testkit.Eventually(i.t, fmt.Sprintf("%s is below %s", name, place), func() bool {
		found = nil
		for _, s := range i.named(name) {
			if "00-"+hexOf(s.TraceId)+"-"+hexOf(s.ParentSpanId)+"-01" == place && hasAll(s, want) {
				found = append(found, s)
			}
		}
		return len(found) > 0
	})
	s := found[0]
	if len(found) > 1 {
		i.t.Errorf("%d spans %s are below %s", len(found), name, place)
	}
	if s.EndTimeUnixNano < s.StartTimeUnixNano {
		i.t.Errorf("%s ends before it starts", name)
	}
	return "00-" + hexOf(s.TraceId) + "-" + hexOf(s.SpanId) + "-01"
}

func hasAll(s *otlp.Span, want []string) bool {
	has := make(map[string]string)
	for _, a := range s.Attributes {
		has[a.Key] = a.Value.GetStringValue()
	}
	for n := 0; n < len(want); n += 2 {
		if want[n] == "error" && s.Status.GetMessage() == want[n+1] {
			continue
		}
		if has[want[n]] != want[n+1] {
			return false
		}
	}
	return true
}

const (
	attrID       = "messaging.message.id"
	attrFrom     = "messaging.rccs.from"
	attrTo       = "messaging.rccs.to"
	attrProtocol = "network.protocol.name"
	attrTopic    = "messaging.destination.name"
	attrMethod   = "rpc.method"
)

func placeIn(envelope map[string]any) string {
	place, _ := envelope["traceparent"].(string)
	return place
}

// got waits for a message and acknowledges it, and checks that it names the
// place that its span has.
func (i *installation) got(d *devicetest.Device, typ, place string) {
	i.t.Helper()
	e := d.Until(typ)
	if placeIn(e) != place {
		i.t.Errorf("the device was told the place %q, and its message came from %s", placeIn(e), place)
	}
	if e["seq"] != nil {
		d.Ack(e)
	}
}

func TestARouteOfAServiceIsTracedToEachDevice(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone := i.device("alice/phone", `,"type":"mobile"`)
	desktop := i.device("alice/desktop", `,"type":"desktop"`)
	nc := i.service()

	i.publish(nc, "rccs.route.alice.all", "to-all")
	route := i.below(caller, "route", attrID, "to-all", attrProtocol, "nats")
	i.below(route, "store")
	for name, d := range map[string]*devicetest.Device{"phone": phone, "desktop": desktop} {
		i.got(d, "note", route)
		i.below(i.below(route, "deliver", attrTo, name), "acknowledge", attrTo, name)
	}

	i.publish(nc, "rccs.route.alice.any.mobile", "to-any")
	route = i.below(caller, "route", attrID, "to-any")
	i.below(route, "store")
	i.got(phone, "note", route)
	i.below(i.below(route, "deliver", attrTo, "phone"), "acknowledge")

	i.publish(nc, "rccs.route.alice.cap.flies", "to-nobody")
	i.below(caller, "route", attrID, "to-nobody", "error", "DEVICE_NOT_FOUND")

	// Straight into an inbox: the store is the server's, and the device is told the
	// service's own place.
	i.publish(nc, "rccs.inbox.alice.phone.normal", "to-one")
	i.got(phone, "note", caller)
	i.below(i.below(caller, "deliver", attrTo, "phone", attrID, "to-one"), "acknowledge")
}

func TestAMessageThatWaitedForADeviceIsOneTrace(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone := i.device("alice/phone", `,"type":"mobile"`)
	desktop := i.device("alice/desktop", `,"type":"desktop"`)
	desktop.Send(`{"type":"device_unregister","id":"bye"}`)
	desktop.Until("ack")
	phone.Send(`{"type":"note","id":"m","to":{"deviceType":"desktop","mode":"any"},"requiresAck":true,"traceparent":"` + caller + `","payload":1}`)
	phone.Until("ack")
	receive := i.below(caller, "receive", attrProtocol, "websocket", attrFrom, "phone")
	i.below(receive, "store")
	desktop = i.device("alice/desktop", `,"type":"desktop"`)
	route := i.below(receive, "route", attrID, "m") // the edge's own has no id
	i.got(desktop, "note", route)
	i.below(i.below(route, "deliver", attrTo, "desktop"), "acknowledge")
}

func TestAMessageOverHTTPIsOneTrace(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone := i.device("alice/phone", "")
	i.post("/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","payload":{},"id":"m"}`)
	receive := i.below(caller, "receive", attrProtocol, "http", attrFrom, "service:operator", attrID, "m")
	i.below(receive, "route")
	i.below(receive, "store")
	i.got(phone, "note", receive)
	i.below(i.below(receive, "deliver", attrTo, "phone"), "acknowledge")
}

// onNATS is a device of alice on plain NATS, which calls its endpoints.
func (i *installation) onNATS(device string) func(endpoint, body string) []byte {
	i.t.Helper()
	a := subjects.Address{User: "alice", Device: subjects.DeviceID(device)}
	cred, err := i.n.Keys().IssueDevice(a, auth.DeviceOptions{Expires: time.Hour})
	testkit.Check(i.t, err)
	nc := i.dial(cred.Option(), nats.CustomInboxPrefix(subjects.ReplyPrefix(a.Key())))
	return func(endpoint, body string) []byte {
		i.t.Helper()
		m, err := nc.RequestWithContext(testkit.Soon(i.t), subjects.DeviceEndpoint(a.Key(), endpoint), []byte(body))
		testkit.Check(i.t, err)
		if m.Header.Get("Nats-Service-Error") != "" {
			i.t.Fatalf("%s: %v: %s", endpoint, m.Header, m.Data)
		}
		return m.Data
	}
}

func TestAMessageByPlainNATSIsOneTrace(t *testing.T) {
	t.Parallel()
	i := install(t)
	desktop := i.device("alice/desktop", "")
	ask := i.onNATS("watch")
	ask("send", `{"type":"note","id":"m","toDeviceId":"desktop","requiresAck":true,"traceparent":"`+caller+`","payload":1}`)
	receive := i.below(caller, "receive", attrProtocol, "nats", attrFrom, "watch")
	i.below(receive, "route")
	i.below(receive, "store")
	i.got(desktop, "note", receive)
	i.below(i.below(receive, "deliver", attrTo, "desktop"), "acknowledge")

	// And the answers, which it fetches, and of which it rejects one.
	service := i.service()
	i.publish(service, "rccs.inbox.alice.watch.normal", "good")
	i.publish(service, "rccs.inbox.alice.watch.normal", "spoiled")
	seqs := i.fetched(ask, "good", "spoiled")
	good := i.below(caller, "deliver", attrTo, "watch", attrProtocol, "nats", attrID, "good")
	spoiled := i.below(caller, "deliver", attrTo, "watch", attrProtocol, "nats", attrID, "spoiled")
	ask("ack", fmt.Sprintf(`{"seq":%d,"reject":{"seq":%d,"reason":"cannot be read"}}`, seqs[0], seqs[1]))
	i.below(good, "acknowledge", attrTo, "watch", attrProtocol, "nats", attrID, "good")
	i.below(spoiled, "acknowledge", attrID, "spoiled", "error", "REJECTED")
}

// A coordinator that did not deliver a message itself has no place for it but the
// message's own.
func TestAnAcknowledgementToACoordinatorThatDidNotDeliverIsInTheTrace(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.publish(i.service(), "rccs.inbox.alice.watch.normal", "m")
	seqs := i.fetched(i.onNATS("watch"), "m")
	i.below(caller, "deliver", attrID, "m")
	i.restart()
	i.onNATS("watch")("ack", fmt.Sprintf(`{"seq":%d}`, seqs[0]))
	i.below(caller, "acknowledge", attrTo, "watch", attrProtocol, "nats", attrID, "m")
}

// fetched has a device on plain NATS fetch messages until it has got those with
// the given ids, and returns their seqs.
func (i *installation) fetched(ask func(endpoint, body string) []byte, ids ...string) (seqs []int64) {
	i.t.Helper()
	var all []map[string]any
	testkit.Check(i.t, json.Unmarshal(ask("fetch", `{"wait":30000}`), &all))
	for _, e := range all {
		if n := len(seqs); n < len(ids) && e["id"] == ids[n] {
			if placeIn(e) != caller {
				i.t.Errorf("fetched %v, with another place than %s", e, caller)
			}
			seq, _ := e["seq"].(float64)
			seqs = append(seqs, int64(seq))
		}
	}
	if len(seqs) != len(ids) {
		i.t.Fatalf("fetched %v, want %q in this order", all, ids)
	}
	return seqs
}

func TestASignalIsOneTrace(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone, desktop := i.device("alice/phone", ""), i.device("alice/desktop", "")
	phone.Send(`{"type":"typing","id":"s","toDeviceId":"desktop","ephemeral":true,"traceparent":"` + caller + `","payload":1}`)
	receive := i.below(caller, "receive", attrID, "s")
	i.got(desktop, "typing", receive)
	i.below(receive, "deliver", attrTo, "desktop")
	if n := len(i.named("store")); n > 0 {
		t.Errorf("a signal has %d spans store", n)
	}
}

// answers has a device answer a request, and returns the place that it was told.
func answers(d *devicetest.Device, id string) string {
	asked := d.Until("request")
	correlation, _ := asked["id"].(string)
	d.Send(`{"type":"response","id":"` + id + `","correlationId":"` + correlation + `","payload":{"result":42}}`)
	return placeIn(asked)
}

func TestARequestAndItsAnswerAreOneTrace(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone, desktop := i.device("alice/phone", ""), i.device("alice/desktop", "")

	// By a device.
	phone.Send(`{"type":"request","id":"q","toDeviceId":"desktop","traceparent":"` + caller + `","payload":{"method":"file.open"}}`)
	told := answers(desktop, "a")
	request := i.below(caller, "request", attrFrom, "phone", attrTo, "desktop", attrMethod, "file.open", attrID, "q")
	answer := i.below(request, "answer", attrTo, "desktop", attrMethod, "file.open")
	i.got(phone, "response", answer)
	if told != answer {
		t.Errorf("the desktop was told the place %s, want %s", told, answer)
	}

	// By a service on NATS: it has a span of its own, if any.
	reply := make(chan *nats.Msg, 1)
	nc := i.service()
	go func() {
		defer close(reply)
		m := &nats.Msg{Subject: "rccs.rpc.alice.desktop.file%2Eclose", Data: []byte(`{}`), Header: nats.Header{"traceparent": {caller}}}
		if m, err := nc.RequestMsgWithContext(testkit.Soon(t), m); err == nil {
			reply <- m
		}
	}()
	answers(desktop, "b")
	answer = i.below(caller, "answer", attrMethod, "file.close")
	if m := testkit.Await(t, "the answer", reply); m == nil || m.Header.Get("traceparent") != answer {
		t.Errorf("the service got %v, want the place %s", m, answer)
	}

	// Over HTTP.
	result := make(chan string, 1)
	go func() { result <- i.post("/v1/users/alice/devices/desktop/requests/file.stat", `{}`) }()
	answers(desktop, "c")
	if got := testkit.Await(t, "the answer", result); got != "42" {
		t.Errorf("the answer is %s", got)
	}
	request = i.below(caller, "request", attrFrom, "service:operator", attrMethod, "file.stat", attrProtocol, "http")
	i.below(request, "answer", attrMethod, "file.stat")
}

func TestARequestThatIsNotAnsweredIsRecordedAsFailed(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone, desktop := i.device("alice/phone", ""), i.device("alice/desktop", "")
	ask := func(id string) {
		phone.Send(`{"type":"request","id":"` + id + `","toDeviceId":"desktop","traceparent":"` + caller + `","payload":{"method":"m"}}`)
		desktop.Until("request")
	}
	ask("cancelled")
	phone.Send(`{"type":"ack","payload":{"cancel":"cancelled"}}`)
	i.below(i.below(caller, "request", attrID, "cancelled", "error", "CANCELLED"), "answer", "error", "CANCELLED")
	ask("gone")
	desktop.Send(`{"type":"device_unregister","id":"bye"}`)
	i.below(i.below(caller, "request", attrID, "gone", "error", "DEVICE_OFFLINE"), "answer", "error", "DEVICE_OFFLINE")
}

func TestATopicIsTracedToEachSubscriber(t *testing.T) {
	t.Parallel()
	i := install(t)
	phone, desktop := i.device("alice/phone", ""), i.device("alice/desktop", "")
	for _, d := range []*devicetest.Device{phone, desktop} {
		d.Send(`{"type":"subscribe","id":"s","payload":{"topic":"builds"}}`)
		d.Until("ack")
	}
	check := func(publish string) {
		t.Helper()
		for name, d := range map[string]*devicetest.Device{"phone": phone, "desktop": desktop} {
			i.below(publish, "deliver", attrTo, name, attrTopic, "builds")
			if got := d.Until("topic"); placeIn(got) != publish {
				t.Errorf("%s was told the place %q, want %s", name, placeIn(got), publish)
			}
		}
	}
	phone.Send(`{"type":"publish","id":"p","traceparent":"` + caller + `","payload":{"topic":"builds","data":1}}`)
	check(i.below(caller, "publish", attrFrom, "phone", attrTopic, "builds", attrID, "p"))
	i.post("/v1/topics/builds", `2`)
	check(i.below(caller, "publish", attrFrom, "service:operator", attrTopic, "builds", attrProtocol, "http"))

	// A service stores by itself, and has a span of its own, if any.
	i.publish(i.service(), "rccs.topic.builds", "by-service")
	check(caller)
}
