package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// NATS has no permissions on headers. On the stream of delayed messages, which
// has schedules, one header takes the body from another message, of any user,
// and one removes all others. So what services publish there comes by the guard,
// which knows the headers that do no harm.

// mayCarry are the headers of NATS that a delayed message of a service may have.
var mayCarry = map[string]bool{
	"Nats-Schedule": true, "Nats-Schedule-Target": true, "Nats-Msg-Id": true, "Nats-Expected-Stream": true,
}

// dropped are headers that NATS itself sets on what comes by an import, or that
// are set here.
var dropped = map[string]bool{layout.HeaderRequester: true, layout.HeaderIssuedTo: true, "Nats-Trace-Dest": true}

// laterOf is the subject that a service has published to, if it is that of a
// delayed message.
func laterOf(api []string) (subject string, ok bool) {
	if len(api) < 2 || api[0] != layout.GuardedLater {
		return "", false
	}
	return layout.LaterPrefix + strings.Join(api[1:], "."), true
}

// examineLater are the headers to store a delayed message with. A message that is
// refused reaches nobody, for the reason that is told.
func examineLater(subject string, h nats.Header, now time.Time, maxDelay time.Duration) (kept nats.Header, refused *refusal, reason string) {
	key, lane, ok := subjects.ParseLater(subject)
	if _, err := key.Address(); !ok || err != nil {
		return nil, refuse("%s does not name a device's lane and an id, each one escaped token", subject), wire.ReasonBadSubject
	}
	kept = make(nats.Header, len(h))
	for name, values := range h {
		switch {
		case dropped[name]:
			continue
		case headers.OfNATS(name) && !mayCarry[name]:
			return nil, refuse("a delayed message cannot have the header %s: leave it out", name), wire.ReasonBadSchedule
		}
		kept[name] = values
	}
	text, scheduled := strings.CutPrefix(only(kept["Nats-Schedule"]), "@at ")
	at, valid := wire.ParseTime(text)
	switch {
	case !scheduled || !valid:
		return nil, refuse(`a delayed message has one header Nats-Schedule: "@at " and an RFC 3339 time`), wire.ReasonBadSchedule
	case wire.CheckDelay(at, now, maxDelay) != nil:
		return nil, refuse("Nats-Schedule is further ahead than --max-delay allows"), wire.ReasonBadSchedule
	case only(kept["Nats-Schedule-Target"]) != layout.Due(key, lane):
		return nil, refuse("Nats-Schedule-Target must be %s, as the subject is %s", layout.Due(key, lane), subject), wire.ReasonBadSchedule
	}
	if at.Before(now) { // some times before 1678 JetStream takes, and never delivers
		at = now
	}
	// JetStream reads fewer forms of RFC 3339 than there are.
	kept["Nats-Schedule"] = []string{"@at " + at.UTC().Format(time.RFC3339Nano)}
	return kept, nil, ""
}

// purge removes delayed messages, and answers as JetStream does; false: JetStream has
// to be asked.
func (g *Guard) purge(api []string, body []byte) (answer []byte, purged bool) {
	var q struct {
		Filter    string `json:"filter"`
		Seq, Keep uint64
	}
	if g.opts.Purge == nil || len(api) != 3 || api[0] != "STREAM" || api[1] != "PURGE" || json.Unmarshal(body, &q) != nil || q.Seq > 1 && q.Keep > 0 {
		return nil, false // seq and keep are not for one request, as JetStream says
	}
	const kind = "stream_purge_response"
	ctx, cancel := context.WithTimeout(g.ctx, within)
	defer cancel()
	n, err := g.opts.Purge(ctx, q.Filter, q.Seq, q.Keep)
	if err != nil {
		g.log.Warn("a service's purge of delayed messages ended early", "filter", q.Filter, "purged", n, "err", err)
		return (&refusal{503, 10008, fmt.Sprintf("JetStream system temporarily unavailable: %d are purged, purge again", n)}).answer(kind), true
	}
	answer, err = json.Marshal(struct {
		Type    string `json:"type"`
		Success bool   `json:"success"`
		Purged  uint64 `json:"purged"`
	}{"io.nats.jetstream.api.v1." + kind, true, n})
	return answer, err == nil
}

// requester is the credential of the user who asks, as NATS says; empty: it does
// not. NATS has checked the credential.
func requester(h nats.Header) string {
	var who struct {
		JWT string `json:"jwt"`
	}
	if json.Unmarshal([]byte(only(h[layout.HeaderRequester])), &who) != nil || who.JWT == "" {
		return ""
	}
	claims, err := jwt.DecodeUserClaims(who.JWT)
	if err != nil {
		return ""
	}
	return layout.IssuedTo(claims.Subject, time.Unix(claims.IssuedAt, 0))
}

// only is the value of a header that has one.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// undeliverable tells services, by an event, of a message that reaches nobody.
func (g *Guard) undeliverable(subject string, h nats.Header, reason string) {
	g.tell(subjects.EventUndeliverable, subject, h, map[string]any{"reason": reason})
	if g.opts.Undeliverable != nil {
		g.opts.Undeliverable(reason)
	}
}

// tell publishes an event about a message that was not stored. Names that cannot
// be read are empty in it.
func (g *Guard) tell(kind, subject string, h nats.Header, body map[string]any) {
	key, _, _ := subjects.ParseLater(subject)
	user, device, _ := strings.Cut(string(key), ".")
	body["kind"], body["at"], body["subject"] = kind, time.Now().UTC().Format(time.RFC3339Nano), subject
	body["user"], body["device"] = "", "" // nothing was stored, so it has no seq
	if id := only(h[subjects.HeaderID]); id != "" {
		body["id"] = id
	}
	token := func(field, escaped string) string {
		name, err := subjects.Unescape(escaped)
		if field == "device" && err == nil {
			err = subjects.CheckDevice(subjects.DeviceID(name))
		} else if err == nil {
			err = subjects.CheckUser(subjects.UserID(name))
		}
		if err != nil {
			return "%" // no escaped name is
		}
		body[field] = name
		return escaped
	}
	to := subjects.Event(subjects.Key(token("user", user)+"."+token("device", device)), kind)
	data, err := json.Marshal(body)
	if err == nil {
		err = g.nc.Publish(to, data)
	}
	if err != nil {
		g.log.Warn("event not told", "subject", to, "err", err)
	}
}

// storeFailed is JetStream's code of a message that a stream did not take.
const storeFailed = 10077

// store stores a delayed message, and answers as JetStream does.
func (g *Guard) store(m *nats.Msg, subject string) {
	h, refused, reason := examineLater(subject, m.Header, time.Now(), g.opts.MaxDelay)
	if _, expects := h["Nats-Expected-Stream"]; expects && g.opts.Shards > 1 {
		refused, reason = refuse("Nats-Expected-Stream cannot be met: this tenant has several shards, and the stream is that of the user's; leave it out"), wire.ReasonBadSchedule
	}
	if refused != nil {
		if m.Reply == "" {
			g.undeliverable(subject, m.Header, reason)
		}
		g.reply(m, refused.publication())
		return
	}
	key, _, _ := subjects.ParseLater(subject)
	if full := g.opts.Shares.Admit(share.Later, key, len(m.Data)); full != nil {
		if m.Reply == "" {
			g.tell(subjects.EventFull, subject, m.Header, map[string]any{})
		}
		g.reply(m, (&refusal{503, storeFailed, full.Message}).publication())
		return
	}
	if service := requester(m.Header); service != "" {
		h.Set(layout.HeaderIssuedTo, service)
	}
	msg := &nats.Msg{Subject: subject, Header: h, Data: m.Data}
	g.shardOf(key.User()).Address(msg)
	ctx, cancel := context.WithTimeout(g.ctx, within)
	defer cancel()
	answer, err := g.put(ctx, msg, subject)
	switch {
	case err == nil:
		g.reply(m, answer)
	case errors.Is(err, nats.ErrNoResponders):
		g.reply(m, (&refusal{503, 10008, "JetStream system temporarily unavailable"}).publication())
	case m.Reply == "":
		g.log.Warn("delayed message of a service not passed on", "err", err)
	}
}

// put stores a delayed message and returns JetStream's answer. A message that waits on
// the same subject is replaced, as with all schedules of NATS.
func (g *Guard) put(ctx context.Context, msg *nats.Msg, subject string) (answer []byte, err error) {
	if g.opts.Waiting == nil {
		return g.putWith(ctx, nil, msg)
	}
	answer, refused, err := g.putAt(ctx, 0, nil, msg)
	if err != nil || !storeerr.Lost(refused) {
		return answer, err
	}
	return g.replace(ctx, msg, subject)
}

// replace stores a delayed message in the place of one that waits, together with a
// note of that one. So that it is known which one that is, this is done by
// compare-and-set. Of several that come at once one is stored at each try; those that
// come here do so in turn.
func (g *Guard) replace(ctx context.Context, msg *nats.Msg, subject string) (answer []byte, err error) {
	turn := &g.replacing[maphash.String(g.seed, subject)%uint64(len(g.replacing))]
	turn.Lock()
	defer turn.Unlock()
	key, _, _ := subjects.ParseLater(subject)
	for {
		waits, note, err := g.opts.Waiting(ctx, subject)
		if err != nil {
			return nil, err
		}
		if note != nil {
			g.shardOf(key.User()).Address(note)
		}
		answer, refused, err := g.putAt(ctx, waits, note, msg)
		if storeerr.Repeated(refused) { // alone, it is answered where it was stored
			answer, refused, err = g.putAt(ctx, waits, nil, msg)
		}
		if err != nil || !storeerr.Lost(refused) {
			return answer, err
		}
	}
}

// putAt is putWith, if the last message on the subject has this sequence. refused says
// why JetStream has not stored the message.
func (g *Guard) putAt(ctx context.Context, waits uint64, note, msg *nats.Msg) (answer []byte, refused, err error) {
	msg.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(waits, 10))
	if answer, err = g.putWith(ctx, note, msg); err != nil {
		return nil, nil, err
	}
	var told struct {
		Error *storeerr.Error `json:"error"`
	}
	if err := json.Unmarshal(answer, &told); err != nil {
		return nil, nil, fmt.Errorf("guard: answer of JetStream: %w", err)
	}
	if told.Error != nil {
		refused = told.Error
	}
	return answer, refused, nil
}

// putWith stores a message, with a note or not at all if there is one, and returns
// JetStream's answer.
func (g *Guard) putWith(ctx context.Context, note, msg *nats.Msg) (answer []byte, err error) {
	inbox.Unseal(msg)
	if note != nil {
		inbox.Seal(note, msg)
		if err := g.nc.PublishMsg(note); err != nil {
			return nil, err
		}
	}
	got, err := g.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return nil, err
	}
	return got.Data, nil
}

// publication is the body that says so to the publisher.
func (r *refusal) publication() []byte {
	body, err := json.Marshal(map[string]any{
		"error": map[string]any{"code": r.status, "err_code": r.code, "description": r.text}, "stream": subjects.StreamLater, "seq": 0,
	})
	if err != nil {
		return nil // strings and numbers always are JSON
	}
	return body
}

func (g *Guard) reply(to *nats.Msg, body []byte) {
	if to.Reply == "" {
		return
	}
	if err := g.nc.Publish(to.Reply, body); err != nil {
		g.log.Warn("request of a service to JetStream not answered", "err", err)
	}
}
