package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

const firstTopicSeq = 1 << 52

// topic sends messages of a topic, from one seq to another.
func (p *peer) topic(topic string, from, to uint64) {
	for seq := from; seq <= to; seq++ {
		e := wire.Envelope{ID: "x", Type: wire.TypeTopic, Topic: topic, Seq: firstTopicSeq + seq, Payload: fmt.Append(nil, seq)}
		p.send(string(e.Append(nil)))
	}
}

// wantSubscribe reads a subscribe, and agrees.
func (p *peer) wantSubscribe(topic string, since wire.Since, last uint64) {
	p.t.Helper()
	e := p.want(wire.TypeSubscribe)
	s, err := wire.DecodeSubscribe(e.Payload)
	if err != nil || s.Topic != topic || s.Since != since {
		p.t.Errorf("peer %d: subscribed with %s, %v; want since %+v", p.n, e.Payload, err, since)
	}
	if last > 0 {
		last += firstTopicSeq
	}
	p.send(string((&wire.Subscribed{OriginalID: e.ID, Topic: topic, Seq: last}).Append(nil)))
}

func (p *peer) wantUnsubscribe(topic string) {
	p.t.Helper()
	e := p.want(wire.TypeUnsubscribe)
	p.send(string((&wire.Subscribed{OriginalID: e.ID, Topic: topic}).Append(nil)))
}

func afterSeq(seq uint64) wire.Since {
	return wire.Since{Kind: wire.SinceSeq, Seq: firstTopicSeq + seq}
}

// wantTopic reads messages of a subscription, from one seq to another.
func wantTopic(t *testing.T, s *client.Subscription, from, to uint64) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		m, err := s.Next(testkit.Soon(t))
		if err != nil || m.Seq != firstTopicSeq+seq || string(m.Payload) != fmt.Sprint(seq) {
			t.Fatalf("%s: got %+v, %v; want %d", s.Topic(), m, err, seq)
		}
		m.Ack() // does nothing
	}
}

func TestSubscriptionGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	cut := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		switch p.n {
		case 0:
			p.wantSubscribe("news", wire.Since{}, 4)
			p.topic("news", 5, 8)
			p.wantSubscribe("quiet", wire.Since{Kind: wire.SinceLast}, 3)
			<-cut
		case 1:
			for range 2 { // in any order
				e := p.want(wire.TypeSubscribe)
				s, _ := wire.DecodeSubscribe(e.Payload)
				if want := map[string]wire.Since{"news": afterSeq(8), "quiet": afterSeq(2)}[s.Topic]; s.Since != want {
					t.Errorf("%s again since %+v, want %+v", s.Topic, s.Since, want)
				}
				p.send(string((&wire.Subscribed{OriginalID: e.ID, Topic: s.Topic, Seq: firstTopicSeq + 10}).Append(nil)))
			}
			p.topic("news", 7, 10) // two of them known
			p.topic("quiet", 3, 3)
			p.wantUnsubscribe("news")
			p.drain()
		}
	})
	c := dial(t, url, client.Options{})
	news, err := c.Subscribe(testkit.Soon(t), "news", nil)
	if err != nil {
		t.Fatal(err)
	}
	quiet, err := c.Subscribe(testkit.Soon(t), "quiet", &client.SubscribeOptions{Since: wire.Since{Kind: wire.SinceLast}})
	if err != nil {
		t.Fatal(err)
	}
	wantTopic(t, news, 5, 8)
	if quiet.Last() != firstTopicSeq+2 {
		t.Errorf("before its first message one begins behind %d", quiet.Last())
	}
	close(cut)
	wantTopic(t, news, 9, 10)
	wantTopic(t, quiet, 3, 3)
	if news.Last() != firstTopicSeq+10 {
		t.Errorf("last is %d", news.Last())
	}
	if _, err := c.Subscribe(testkit.Soon(t), "news", nil); err == nil {
		t.Error("a second subscription to the same topic")
	}
	_ = news.Close()
	if _, err := news.Next(testkit.Soon(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	_ = c.Close()
	for m, err := range quiet.Messages(testkit.Soon(t)) {
		if m != nil || !errors.Is(err, client.ErrClosed) {
			t.Errorf("of a closed client: %+v, %v", m, err)
		}
	}
}

// A subscription that began while nothing was stored goes on, on the next
// connection, from where the edge said that it began.
func TestSubscriptionGoesOnFromAnEmptyBeginning(t *testing.T) {
	t.Parallel()
	cut := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		switch p.n {
		case 0:
			e := p.want(wire.TypeSubscribe)
			p.send(string((&wire.Subscribed{OriginalID: e.ID, Topic: "news", Since: firstTopicSeq + 4}).Append(nil)))
			<-cut
		case 1:
			p.wantSubscribe("news", afterSeq(4), 5)
			p.topic("news", 5, 5)
			p.drain()
		}
	})
	c := dial(t, url, client.Options{})
	news, err := c.Subscribe(testkit.Soon(t), "news", nil)
	if err != nil {
		t.Fatal(err)
	}
	close(cut)
	wantTopic(t, news, 5, 5)
}

// TestSlowSubscriberLosesNothing reads nothing until far more has come than
// the subscription keeps. It must ask again for what it did not take, and not
// be fooled by what comes late of the old subscription.
func TestSlowSubscriberLosesNothing(t *testing.T) {
	t.Parallel()
	sent := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		p.wantSubscribe("news", wire.Since{Kind: wire.SinceSeq}, 0)
		p.topic("news", 1, 1500)
		p.send(note(1))
		p.acks(1) // the client has read all of that
		close(sent)
		e := p.want(wire.TypeUnsubscribe)
		p.topic("news", 1501, 1510) // under way
		p.send(string((&wire.Subscribed{OriginalID: e.ID, Topic: "news"}).Append(nil)))
		p.wantSubscribe("news", afterSeq(1024), 1510)
		p.topic("news", 1025, 2000)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	s, err := c.Subscribe(testkit.Soon(t), "news", &client.SubscribeOptions{Since: wire.Since{Kind: wire.SinceSeq}})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, c, 1).Ack()
	testkit.Await(t, "all to be sent", sent)
	wantTopic(t, s, 1, 2000)
}

func TestSubscriptionHearsThatItMayNot(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		if p.n == 0 {
			p.refuse(p.want(wire.TypeSubscribe), wire.PermissionDenied)
			p.wantUnsubscribe("secret")
			p.wantSubscribe("news", wire.Since{}, 0)
			return
		}
		p.refuse(p.want(wire.TypeSubscribe), wire.Unavailable) // for the moment
		p.refuse(p.want(wire.TypeSubscribe), wire.PermissionDenied)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	if _, err := c.Subscribe(testkit.Soon(t), "secret", nil); !errors.Is(err, wire.PermissionDenied) {
		t.Errorf("refused with %v", err)
	}
	if _, err := c.Subscribe(testkit.Soon(t), "a..b", nil); !errors.Is(err, wire.BadMessage) {
		t.Errorf("a bad topic is %v", err)
	}
	s, err := c.Subscribe(testkit.Soon(t), "news", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(testkit.Soon(t)); !errors.Is(err, wire.PermissionDenied) {
		t.Errorf("after the reconnect: %v", err)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		var e wire.Envelope
		if p.n == 0 {
			e = p.want(wire.TypePublish)
			if d, err := wire.DecodePublish(e.Payload); err != nil || d.Topic != "news" || string(d.Data) != `{"a":1}` || e.ID != "p1" {
				t.Errorf("published %+v: %s, %v", e, e.Payload, err)
			}
			return // cut: it is published again under its id
		}
		e = p.want(wire.TypePublish)
		p.send(string((&wire.Published{OriginalID: e.ID, Topic: "news", Seq: 9, Duplicate: true}).Append(nil)))
		p.refuse(p.want(wire.TypePublish), wire.PermissionDenied)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	got, err := c.Publish(testkit.Soon(t), "news", map[string]int{"a": 1}, client.WithID("p1"))
	if err != nil || got != (wire.Published{OriginalID: "p1", Topic: "news", Seq: 9, Duplicate: true}) {
		t.Errorf("published %+v, %v", got, err)
	}
	if _, err := c.Publish(testkit.Soon(t), "news", 1); !errors.Is(err, wire.PermissionDenied) {
		t.Errorf("refused with %v", err)
	}
	if _, err := c.Publish(testkit.Soon(t), "news", json.RawMessage(`{`)); !errors.Is(err, wire.BadMessage) {
		t.Errorf("bad data is %v", err)
	}
}

func TestHistoryReadsPageAfterPage(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		for {
			e, ok := p.next()
			if !ok {
				return
			}
			h, err := wire.DecodeHistory(e.Payload)
			if err != nil || !h.Inbox {
				t.Errorf("asked for %s, %v", e.Payload, err)
			}
			page := wire.HistoryPage{OriginalID: e.ID}
			switch h.From {
			case 1:
				page.Messages, page.Next = []byte("["+note(1)+","+note(2)+"]"), 3
			case 3:
				page.Messages = []byte("[" + note(3) + "]")
			case 9:
			default:
				p.refuse(e, wire.Unavailable)
				continue
			}
			p.send(string(page.Append(nil)))
		}
	})
	c := dial(t, url, client.Options{})
	for from, want := range map[uint64][]uint64{1: {1, 2, 3}, 3: {3}, 9: nil} {
		var got []uint64
		for e, err := range c.History(testkit.Soon(t), wire.History{Inbox: true, From: from, Limit: 2}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("from %d: %v, want %v", from, got, want)
		}
	}
	for e, err := range c.History(testkit.Soon(t), wire.History{Inbox: true, From: 5}) {
		if e != nil || !errors.Is(err, wire.Unavailable) {
			t.Errorf("got %+v, %v", e, err)
		}
	}
	for _, err := range c.History(testkit.Soon(t), wire.History{Inbox: true, From: 1}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range c.History(ctx, wire.History{Inbox: true, From: 1}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("without time: %v", err)
		}
	}
}
