package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/testkit"
)

type sent struct {
	ID         string
	Duplicate  bool
	Recipients []struct {
		DeviceID string
		Seq      uint64
	}
	Error *struct {
		Status int
		Code   string
	}
}

func TestMessageReachesItsDeviceAndItsOutcomeComesAsAnEvent(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	service := p.service("billing", auth.ServiceOptions{})
	phone := p.connect("alice/phone", "")
	nc := p.nats()
	sub, err := nc.SubscribeSync("rccs.event.alice.phone.delivered")
	testkit.Check(t, err)
	testkit.Check(t, nc.FlushTimeout(testkit.Patience)) // the API publishes on another connection
	got := p.do("POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"approval","id":"d-17","priority":"high","correlationId":"c","payload":{ "deploy" : 1.0 }}`, service)
	var s sent
	if got.into(t, &s); got.status != http.StatusAccepted || s.ID != "d-17" || s.Duplicate || len(s.Recipients) != 1 || s.Recipients[0].DeviceID != "phone" || s.Recipients[0].Seq == 0 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	m := phone.Until("approval")
	if m["fromDeviceId"] != "service:billing" || m["id"] != "d-17" || m["priority"] != 2.0 || m["correlationId"] != "c" {
		t.Errorf("delivered as %v", m)
	}
	phone.Ack(m)
	event, err := sub.NextMsgWithContext(testkit.Soon(t))
	if err != nil || !strings.Contains(string(event.Data), `"d-17"`) {
		t.Errorf("the event is %v, %v", event, err)
	}
	again := p.do("POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"approval","id":"d-17","payload":1}`, service)
	var repeat sent
	if again.into(t, &repeat); again.status != http.StatusAccepted || !repeat.Duplicate || len(repeat.Recipients) != 1 || repeat.Recipients[0].Seq != s.Recipients[0].Seq {
		t.Errorf("a repeat: %d %s", again.status, again.body)
	}
}

func TestMessageSelectsDevices(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.connect("alice/phone", `,"type":"mobile","capabilities":{"camera":true}`)
	p.connect("alice/tablet", `,"type":"mobile"`)
	p.connect("alice/desk top/1", `,"type":"desktop"`)
	for to, want := range map[string]int{
		`{"user":"alice"}`:                                         3,
		`{"user":"alice","mode":"any"}`:                            1,
		`{"user":"alice","deviceType":"mobile"}`:                   2,
		`{"user":"alice","deviceType":"mobile","mode":"all"}`:      2,
		`{"user":"alice","deviceType":"mobile","mode":"any"}`:      1,
		`{"user":"alice","capability":"camera"}`:                   1,
		`{"user":"alice","device":"desk top/1"}`:                   1,
		`{"user":"alice","device":"desk top/1","capability":null}`: 1,
	} {
		got := p.post("/v1/messages", `{"to":`+to+`,"type":"note","payload":null}`)
		var s sent
		if got.into(t, &s); got.status != http.StatusAccepted || len(s.Recipients) != want || s.ID == "" {
			t.Errorf("%s: %d %s", to, got.status, got.body)
		}
	}
	for to, code := range map[string]string{
		`{"user":"alice","device":"nobody"}`:      "DEVICE_NOT_FOUND",
		`{"user":"nobody"}`:                       "DEVICE_NOT_FOUND",
		`{"user":"alice","deviceType":"watch"}`:   "DEVICE_NOT_FOUND",
		`{"user":"alice","capability":"printer"}`: "DEVICE_NOT_FOUND",
	} {
		if got := p.post("/v1/messages", `{"to":`+to+`,"type":"note","payload":null}`); got.status != http.StatusNotFound || got.code() != code {
			t.Errorf("%s: %d %s", to, got.status, got.body)
		}
	}
}

func TestIdempotencyKeyIsTheIDOfAMessageWithoutOne(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.connect("alice/phone", "")
	h := header("Idempotency-Key", "key-1")
	var first, second sent
	p.do("POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","payload":1}`, h).into(t, &first)
	p.do("POST", "/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","payload":1}`, h).into(t, &second)
	if first.ID != "key-1" || first.Duplicate || second.ID != "key-1" || !second.Duplicate {
		t.Errorf("%+v, then %+v", first, second)
	}
}

func TestArrayIsAnsweredElementByElement(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	var body strings.Builder
	body.WriteString(`[{"to":{"user":"alice","device":"nobody"},"type":"note","payload":0},{"to":1},{"to":{"user":"alice"},"type":"note","payload":0,"unknown":1}`)
	for i := range 100 {
		fmt.Fprintf(&body, `,{"to":{"user":"alice","device":"phone"},"type":"note","id":"m%d","payload":%d}`, i, i)
	}
	got := p.post("/v1/messages", body.String()+"]")
	var list []sent
	if got.into(t, &list); got.status != http.StatusOK || len(list) != 103 {
		t.Fatalf("%d with %d", got.status, len(list))
	}
	for i, code := range []string{"DEVICE_NOT_FOUND", "BAD_MESSAGE", "BAD_MESSAGE"} {
		if e := list[i].Error; e == nil || e.Code != code {
			t.Errorf("element %d is %+v, want %s", i, list[i], code)
		}
	}
	for i := range 100 {
		m := phone.Until("note")
		if m["payload"] != float64(i) {
			t.Fatalf("message %d is %v", i, m)
		}
		phone.Ack(m)
		if s := list[3+i]; s.Error != nil || s.ID != fmt.Sprintf("m%d", i) || len(s.Recipients) != 1 || s.Recipients[0].Seq != uint64(m["seq"].(float64)) {
			t.Errorf("answered %+v for %v", s, m)
		}
	}
	many := "[" + strings.Repeat(`{"x":1},`, 1000) + `{"x":1}]`
	if got := p.post("/v1/messages", many); got.status != http.StatusRequestEntityTooLarge || got.code() != "MESSAGE_TOO_LARGE" {
		t.Errorf("1,001: %d %s", got.status, got.body)
	}
	if got := p.post("/v1/messages", "[]"); got.status != http.StatusOK || strings.TrimSpace(string(got.body)) != "[]" {
		t.Errorf("none: %d %s", got.status, got.body)
	}
}

func TestDelayedMessageIsCancelled(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	p.connect("alice/phone", "")
	p.connect("alice/tablet", "")
	got := p.post("/v1/messages", `{"to":{"user":"alice"},"type":"note","id":"later/1","payload":1,"deliverAt":"2099-01-01T00:00:00Z"}`)
	if got.status == http.StatusBadRequest { // further ahead than is allowed
		got = p.post("/v1/messages", `{"to":{"user":"alice"},"type":"note","id":"later/1","payload":1,"deliverAt":"2027-06-01T00:00:00Z"}`)
	}
	var s sent
	if got.into(t, &s); got.status != http.StatusAccepted || len(s.Recipients) != 2 || s.Recipients[0].Seq != 0 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, want := range []int{2, 0} {
		got := p.delete("/v1/users/alice/messages/later%2F1")
		if got.status != http.StatusOK || strings.TrimSpace(string(got.body)) != fmt.Sprintf(`{"cancelled":%d}`, want) {
			t.Errorf("cancelled: %d %s, want %d", got.status, got.body, want)
		}
	}
}

func TestEphemeralMessageIsNotStored(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	var s sent
	p.post("/v1/messages", `{"to":{"user":"alice"},"type":"pointer","payload":1,"ephemeral":true}`).into(t, &s)
	if m := phone.Until("pointer"); len(s.Recipients) != 1 || m["seq"] != nil || m["ephemeral"] != true {
		t.Errorf("answered %+v, delivered %v", s, m)
	}
}

func TestLifeOfAMessage(t *testing.T) {
	t.Parallel()
	p := serve(t, false)
	phone := p.connect("alice/phone", "")
	p.post("/v1/messages", `{"to":{"user":"alice","device":"phone"},"type":"note","id":"m 1","payload":1}`)
	phone.Ack(phone.Until("note"))
	var life struct {
		ID    string
		Steps []struct {
			At, What, DeviceID, Edge string
			Seq                      uint64
		}
	}
	p.eventually("it is delivered", func() bool {
		got := p.get("/v1/users/alice/messages/m%201")
		if got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		got.into(t, &life)
		return len(life.Steps) >= 2 && life.Steps[len(life.Steps)-1].What == "delivered"
	})
	if s := life.Steps[0]; life.ID != "m 1" || s.What != "stored" || s.DeviceID != "phone" || s.Seq == 0 || s.Edge == "" || s.At == "" {
		t.Errorf("the life is %+v", life)
	}
	if got := p.get("/v1/users/alice/messages/none"); got.status != http.StatusNotFound || got.code() != "NOT_FOUND" {
		t.Errorf("an unknown id: %d %s", got.status, got.body)
	}
}
