package edge

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Topics follows topics. [topic.Hub] implements it.
type Topics interface {
	Subscribe(ctx context.Context, by, name string, since topic.Since, ready func(*topic.Subscription)) (*topic.Subscription, topic.Beginning, error)
	History(ctx context.Context, name string, from uint64, limit, maxBytes int) ([]*topic.Message, uint64, error)
	// Followers returns how many subscriptions a topic has, and Owners whose they
	// are.
	Followers(name string) int
	Owners(name string) []string
}

const (
	// topicTimeout bounds requests to the store for which a device waits.
	topicTimeout = 10 * time.Second
	// historyBytes bounds the bytes of messages in one answer.
	historyBytes = 1 << 20
)

// topicSubject returns the subject of a topic. The error is an [*wire.Error], also
// if the device may not do with the topic what it asked for.
func (c *conn) topicSubject(id, name string, may func(subject string) bool, do string) (string, error) {
	subject, err := subjects.Topic(name)
	if err != nil {
		return "", wire.NewError(wire.BadMessage, "payload.topic: "+err.Error())
	}
	if !may(subject) {
		return "", wire.NewError(wire.PermissionDenied, "the credential does not allow to "+do+" this topic")
	}
	// No answer, and no gap, is longer than this.
	const most = math.MaxUint64
	longest := wire.Subscribed{OriginalID: id, Topic: name, Seq: most, Since: most, Epoch: anyEpoch, Reset: true}
	if answerLen(len(longest.AppendPayload(nil))) > c.maxFrame {
		return "", wire.NewError(wire.MessageTooLarge, "payload.topic: the name does not fit in maxFrameBytes")
	}
	return subject, nil
}

// anyEpoch is as long as an epoch may be.
var anyEpoch = strings.Repeat("x", 32)

// subscribe subscribes the connection to a topic.
func (c *conn) subscribe(e *wire.Envelope) error {
	sub, err := wire.DecodeSubscribe(e.Payload)
	if err != nil {
		return err
	}
	if _, err := c.topicSubject(e.ID, sub.Topic, c.rights.MaySubscribe, "subscribe to"); err != nil {
		return err
	}
	c.unfollow(sub.Topic) // a repeat begins anew
	if len(c.subscribed) >= c.s.opts.MaxTopics {
		return wire.NewError(wire.RateLimited, "too many topics on this connection: unsubscribe from some")
	}
	if c.away() {
		return send.Unavailable()
	}
	ctx, cancel := context.WithTimeout(c.s.ctx, topicTimeout)
	defer cancel()
	since := topic.Since{
		FromSeq: sub.Since.Kind == wire.SinceSeq, Seq: sub.Since.Seq, Epoch: sub.Epoch,
		Time: sub.Since.Time, Last: sub.Since.Kind == wire.SinceLast,
	}
	if epoch := time.Unix(0, 0); sub.Since.Kind == wire.SinceTime && since.Time.Before(epoch) {
		since.Time = epoch // nothing is older, and the zero time means now
	}
	// None of the topic's messages is written before the answer: the writer takes
	// from a subscription only once it is entered below.
	s, at, err := c.tenant.Topics.Subscribe(ctx, string(c.key), sub.Topic, since, c.topicReady)
	if err != nil {
		c.log().Warn("not subscribed", "err", err)
		return send.Unavailable()
	}
	s.SetOwner(c.who.Address.String())
	if c.subscribed == nil {
		c.subscribed = make(map[string]*topic.Subscription)
	}
	c.subscribed[sub.Topic] = s
	answer := wire.Subscribed{OriginalID: e.ID, Topic: sub.Topic, Seq: at.Last, Epoch: at.Epoch, Reset: at.Reset, Since: at.Since}
	c.answer(wire.TypeAck, answer.AppendPayload(nil))
	c.topics.enter(s)
	c.sock.Wake()
	if !c.sock.Open() { // its subscriptions may have been dropped already
		go c.contained(s.Close)
	}
	return nil
}

// away reports whether no server is there to be asked. The device then hears so at
// once: what else it sends does not wait for an answer that cannot come.
func (c *conn) away() bool { return !c.tenant.Core.IsConnected() }

// restrict applies the rights of a renewed credential. Subscriptions that it does
// not allow end, and the device is told.
func (c *conn) restrict(rights auth.Topics) {
	c.rights = rights
	for name := range c.subscribed {
		if subject, err := subjects.Topic(name); err == nil && !rights.MaySubscribe(subject) {
			c.unfollow(name)
			c.tell(wire.NewError(wire.PermissionDenied, "the renewed credential does not allow topic "+name+": its subscription has ended"))
		}
	}
}

// topicReady is called by a subscription that has messages.
func (c *conn) topicReady(s *topic.Subscription) {
	defer c.contain()
	if c.topics.mark(s) {
		c.sock.Wake()
	}
}

// unfollow ends a subscription, if there is one.
func (c *conn) unfollow(name string) {
	s := c.subscribed[name]
	if s == nil {
		return
	}
	delete(c.subscribed, name)
	s.Close()
	c.topics.remove(s)
}

// dropTopics ends all subscriptions of a connection that ends.
func (c *conn) dropTopics() {
	for _, s := range c.topics.drop() {
		s.Close()
	}
}

// unsubscribe ends a subscription. It is no error if there is none.
func (c *conn) unsubscribe(e *wire.Envelope) error {
	sub, err := wire.DecodeSubscribe(e.Payload)
	if err != nil {
		return err
	}
	c.unfollow(sub.Topic)
	answer := wire.Subscribed{OriginalID: e.ID, Topic: sub.Topic}
	c.answer(wire.TypeAck, answer.AppendPayload(nil))
	return nil
}

// publish stores a message on a topic.
func (c *conn) publish(e *wire.Envelope) error {
	p, err := wire.DecodePublish(e.Payload)
	if err != nil {
		return err
	}
	subject, err := c.topicSubject(e.ID, p.Topic, c.rights.MayPublish, "publish to")
	if err != nil {
		return err
	}
	if werr := c.tenant.Shares.Admit(share.Topic, c.key, len(p.Data)); werr != nil {
		return werr
	}
	var span trace.Span
	if c.s.opts.Tracer != nil {
		span = c.begin(trace.Publish, trace.Message{From: string(c.who.Address.Device), Topic: p.Topic}, e)
	}
	msg := envelope.Topic(e, c.sender(), subject, clone(p.Data), time.Now())
	c.storing()
	id, name := e.ID, p.Topic
	c.tenant.Publisher.Publish(msg, func(r inbox.Receipt, err error) {
		defer c.contain()
		var werr *wire.Error
		if err != nil {
			werr = send.StoreError(err).For(id)
		}
		endSpan(span, trace.CodeOf(werr))
		if werr != nil {
			c.stored(nil, werr)
			return
		}
		c.s.metrics.published.Inc()
		answer := wire.Published{OriginalID: id, Topic: name, Seq: r.Seq, Duplicate: r.Duplicate}
		c.answer(wire.TypeAck, answer.AppendPayload(nil))
		c.stored(nil, nil)
	})
	return nil
}

// history answers with stored messages of a topic, or of the device's inbox.
func (c *conn) history(e *wire.Envelope) error {
	q, err := wire.DecodeHistory(e.Payload)
	if err != nil {
		return err
	}
	if c.away() {
		return send.Unavailable()
	}
	ctx, cancel := context.WithTimeout(c.s.ctx, topicTimeout)
	defer cancel()
	page := wire.HistoryPage{OriginalID: e.ID}
	if q.Inbox {
		page.Messages, page.Next, err = c.inboxHistory(ctx, e.ID, q)
	} else {
		if _, err := c.topicSubject(e.ID, q.Topic, c.rights.MaySubscribe, "read"); err != nil {
			return err
		}
		page.Messages, page.Next, err = c.topicHistory(ctx, e.ID, q)
	}
	if err != nil {
		c.log().Warn("history not read", "err", err)
		return send.Unavailable()
	}
	c.answer(wire.TypeAck, page.AppendPayload(nil))
	return nil
}

func (c *conn) topicHistory(ctx context.Context, originalID string, q wire.History) ([]byte, uint64, error) {
	msgs, next, err := c.tenant.Topics.History(ctx, q.Topic, q.From, q.Limit, historyBytes)
	if err != nil {
		return nil, 0, err
	}
	p := newPage(originalID, c.maxFrame)
	for _, m := range msgs {
		if !p.add(m.Frame(c.tenant.topicFrame)) {
			next = m.Seq
			break
		}
	}
	return p.close(), next, nil
}

func (c *conn) inboxHistory(ctx context.Context, originalID string, q wire.History) ([]byte, uint64, error) {
	msgs, next, err := c.tenant.Inbox.History(ctx, c.key, q.From, q.Limit, historyBytes)
	if err != nil {
		return nil, 0, err
	}
	p := newPage(originalID, c.maxFrame)
	var one []byte
	for _, m := range msgs {
		if one = envelope.Append(one[:0], &envelope.Delivery{Message: m}, c.who.Address); !p.add(one) {
			next = m.Seq
			break
		}
	}
	return p.close(), next, nil
}

// topicFrame appends a topic's message in the form in which every subscriber gets
// it.
func (t *Tenant) topicFrame(dst []byte, m *topic.Message) []byte {
	if m.Notice() {
		gap := wire.Gap{Topic: m.Topic, From: m.LostFrom, To: m.Seq, Reason: m.Reason}
		return gap.Append(dst)
	}
	return envelope.AppendTopic(dst, t.Proof, m.Topic, envelope.Stored{Subject: m.Subject, Seq: m.Seq, Time: m.Stored, Header: m.Header, Data: m.Data})
}
