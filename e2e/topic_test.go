package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// subscribe returns the seq of the last message stored so far.
func (d *device) subscribe(topic string, since any) uint64 {
	d.t.Helper()
	payload := object{"topic": topic}
	if since != nil {
		payload["since"] = since
	}
	d.send(object{"id": newID(), "type": "subscribe", "payload": payload})
	e := d.control()
	var a struct {
		Status, Topic string
		Seq           uint64
	}
	decode(d.t, e.Payload, &a)
	if a.Status != "success" || a.Topic != topic {
		d.t.Fatalf("%s: subscribe answered with %s", d.name, e.raw)
	}
	return a.Seq
}

// control is the next answer that is no topic's message; those are kept.
func (d *device) control() envelope {
	d.t.Helper()
	for {
		e, err := d.receive()
		if err != nil {
			d.t.Fatal(err)
		}
		if e.Type != "topic" {
			return e
		}
		d.early = append(d.early, e)
	}
}

func (d *device) publishTopic(topic string, data any) uint64 {
	d.t.Helper()
	d.send(object{"id": newID(), "type": "publish", "payload": object{"topic": topic, "data": data}})
	e := d.control()
	var a struct {
		Status, Topic string
		Seq           uint64
	}
	decode(d.t, e.Payload, &a)
	if a.Status != "accepted" || a.Seq == 0 {
		d.t.Fatalf("%s: publish answered with %s", d.name, e.raw)
	}
	return a.Seq
}

func (d *device) wantTopic(topic, payload string, seq uint64) {
	d.t.Helper()
	e := d.next()
	if e.Type != "topic" || e.Topic != topic || string(e.Payload) != payload || seq != 0 && e.Seq != seq {
		d.t.Fatalf("%s: want %s %s seq %d, got %s", d.name, topic, payload, seq, e.raw)
	}
}

func TestProtocol_6_TopicsReachSubscribersOfTheTenant(t *testing.T) {
	t.Parallel()
	s := use(t)
	topic := "news." + user(t) + ".a b"
	a, b := connect(t, s, user(t)+"/a", nil), connect(t, s, user(t)+"/b", nil)
	a.subscribe(topic, nil)
	b.subscribe(topic, nil)
	seq := a.publishTopic(topic, object{"n": 1})
	a.wantTopic(topic, `{"n":1}`, seq)
	b.wantTopic(topic, `{"n":1}`, seq)
	b.publishTopic(topic+".below", 2)
	b.send(object{"id": newID(), "type": "unsubscribe", "payload": object{"topic": topic}})
	b.wantAck()
	a.publishTopic(topic, 3)
	a.wantTopic(topic, `3`, 0)
	b.beat()
	for _, bad := range []any{object{}, object{"topic": ""}, object{"topic": "a..b"}, object{"topic": 7}, "x"} {
		a.send(object{"id": newID(), "type": "subscribe", "payload": bad})
		a.wantError("BAD_MESSAGE")
	}
}

func TestProtocol_6_RecoverATopicFromWhereItWasLeft(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	topic := "log." + u
	a := connect(t, s, u+"/a", nil)
	var seqs []uint64
	for i := range 20 {
		seqs = append(seqs, a.publishTopic(topic, i))
	}
	s.restart(t)
	middle := time.Now().UTC()
	a = connect(t, s, u+"/a", nil)
	for i := range 10 {
		seqs = append(seqs, a.publishTopic(topic, 20+i))
	}
	for since, first := range map[any]int{seqs[4]: 5, "last": 29, middle.Format(time.RFC3339Nano): 20, 0: 0} {
		d := connect(t, s, u+"/d", nil)
		if last := d.subscribe(topic, since); last != seqs[29] {
			t.Errorf("last is %d, want %d", last, seqs[29])
		}
		for i := first; i < 30; i++ {
			d.wantTopic(topic, fmt.Sprint(i), seqs[i])
		}
		d.close()
	}
	d := connect(t, s, u+"/d", nil)
	d.subscribe(topic, nil)
	next := a.publishTopic(topic, 30)
	d.wantTopic(topic, "30", next)
}

func TestProtocol_6_ServicesPublishAndHearTopics(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	v := s.service(t, "topical")
	name := token(strings.ReplaceAll(u, ".", "-")) // the dots of a topic part tokens
	sub, err := v.nc.SubscribeSync("rccs.topic.svc." + name)
	if err != nil {
		t.Fatal(err)
	}
	d := connect(t, s, u+"/d", nil)
	d.subscribe("svc."+name, nil)
	stored, err := v.js.Publish(t.Context(), "rccs.topic.svc."+name, []byte(`{"from":"service"}`))
	if err != nil {
		t.Fatal(err)
	}
	d.wantTopic("svc."+name, `{"from":"service"}`, stored.Sequence)
	d.publishTopic("svc."+name, "up")
	for _, want := range []string{`{"from":"service"}`, `"up"`} {
		if m, err := sub.NextMsg(patience); err != nil || string(m.Data) != want {
			t.Errorf("got %v (%v), want %s", m, err, want)
		}
	}
}

func TestProtocol_6_HistoryTouchesNoCursor(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	a, b := connect(t, s, u+"/a", nil), connect(t, s, u+"/b", nil)
	var seqs []uint64
	for i := range 7 {
		seqs = append(seqs, a.give("b", i, object{"priority": i % 4}).Recipients[0].Seq)
		a.publishTopic("h."+u, i)
	}
	for range 7 {
		b.message()
	}
	page := func(payload object) (messages []envelope, next uint64) {
		t.Helper()
		b.send(object{"id": newID(), "type": "history", "payload": payload})
		var p struct {
			Messages []json.RawMessage
			Next     uint64
		}
		decode(t, b.pick(false).Payload, &p)
		for _, raw := range p.Messages {
			var e envelope
			decode(t, raw, &e)
			messages = append(messages, e)
		}
		return messages, p.Next
	}
	got, next := page(object{"inbox": true, "from": seqs[2], "limit": 3})
	if len(got) != 3 || got[0].Seq != seqs[2] || got[2].Seq != seqs[4] || string(got[1].Payload) != "3" || next == 0 {
		t.Errorf("got %+v, next %d", got, next)
	}
	got, next = page(object{"inbox": true, "from": next})
	if len(got) != 2 || got[1].Seq != seqs[6] || next != 0 {
		t.Errorf("got %+v, next %d", got, next)
	}
	got, _ = page(object{"topic": "h." + u, "limit": 2})
	if len(got) != 2 || string(got[1].Payload) != "1" {
		t.Errorf("got %+v", got)
	}
	b.close()
	again := connect(t, s, u+"/b", nil)
	if again.session.Pending != 7 {
		t.Errorf("pending is %d, want all 7", again.session.Pending)
	}
}
