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
	// topicWithin bounds requests to the store for which a device waits.
	topicWithin = 10 * time.Second
	// historyBytes bounds the bytes of messages in one answer.
	historyBytes = 1 << 20
)

// topicSubject returns the subject of a topic. The error is an [*wire.Error], also
// if the device may not do with the topic what it asked for.
func (c *conn) topicSubject(originalID, name string, may func(subject string) bool, do string) (string, error) {
	subject, err := subjects.Topic(name)
	if err != nil {
		return "", wire.NewError(wire.BadMessage, "payload.topic: "+err.Error())
	}
	if !may(subject) {
		return "", wire.NewError(wire.PermissionDenied, "the credential does not allow to "+do+" this topic")
	}
	// No answer, and no gap, is longer than this.
	const most = math.MaxUint64
	longest := wire.Subscribed{OriginalID: originalID, Topic: name, Seq: most, Since: most, Epoch: anyEpoch, Reset: true}
	if answerLen(len(longest.AppendPayload(nil))) > c.maxFrame {
		return "", wire.NewError(wire.MessageTooLarge, "payload.topic: the name does not fit in maxFrameBytes")
	}
	return subject, nil
}

// anyEpoch is as long as an epoch may be.
var anyEpoch = strings.Repeat("x", 32)

// subscribe subscribes the connection to a topic.
func (c *conn) subscribe(e *wire.Envelope) {
	sub, err := wire.DecodeSubscribe(e.Payload)
	if err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	if _, err := c.topicSubject(e.ID, sub.Topic, c.rights.MaySubscribe, "subscribe to"); err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	c.unfollow(sub.Topic) // a repeat begins anew
	if len(c.subscribed) >= c.s.opts.MaxTopics {
		c.fail(e, wire.NewError(wire.RateLimited, "too many topics on this connection: unsubscribe from some"))
		return
	}
	if c.away(e) {
		return
	}
	ctx, cancel := context.WithTimeout(c.s.ctx, topicWithin)
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
		c.fail(e, send.Unavailable())
		return
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
}

// away tells the sender of e to try again, and reports true, while no server is there
// to be asked. What else the device sends has not to wait for that.
func (c *conn) away(e *wire.Envelope) bool {
	if c.tenant.Core.IsConnected() {
		return false
	}
	c.fail(e, send.Unavailable())
	return true
}

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
func (c *conn) unsubscribe(e *wire.Envelope) {
	sub, err := wire.DecodeSubscribe(e.Payload)
	if err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	c.unfollow(sub.Topic)
	answer := wire.Subscribed{OriginalID: e.ID, Topic: sub.Topic}
	c.answer(wire.TypeAck, answer.AppendPayload(nil))
}

// publish stores a message on a topic.
func (c *conn) publish(e *wire.Envelope) {
	p, err := wire.DecodePublish(e.Payload)
	if err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	subject, err := c.topicSubject(e.ID, p.Topic, c.rights.MayPublish, "publish to")
	if err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	if werr := c.tenant.Shares.Admit(share.Topic, c.key, len(p.Data)); werr != nil {
		c.fail(e, werr)
		return
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
}

// history answers with stored messages of a topic, or of the device's inbox.
func (c *conn) history(e *wire.Envelope) {
	q, err := wire.DecodeHistory(e.Payload)
	if err != nil {
		c.fail(e, wire.AsError(err))
		return
	}
	if c.away(e) {
		return
	}
	ctx, cancel := context.WithTimeout(c.s.ctx, topicWithin)
	defer cancel()
	page := wire.HistoryPage{OriginalID: e.ID}
	if q.Inbox {
		page.Messages, page.Next, err = c.inboxHistory(ctx, e.ID, q)
	} else {
		page.Messages, page.Next, err = c.topicHistory(ctx, e.ID, q)
	}
	switch werr := wire.AsError(err); {
	case err == nil:
		c.answer(wire.TypeAck, page.AppendPayload(nil))
	case werr.Code == wire.PermissionDenied || werr.Code == wire.BadMessage || werr.Code == wire.MessageTooLarge:
		c.fail(e, werr)
	default:
		c.log().Warn("history not read", "err", err)
		c.fail(e, send.Unavailable())
	}
}

func (c *conn) topicHistory(ctx context.Context, originalID string, q wire.History) ([]byte, uint64, error) {
	if _, err := c.topicSubject(originalID, q.Topic, c.rights.MaySubscribe, "read"); err != nil {
		return nil, 0, err
	}
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
