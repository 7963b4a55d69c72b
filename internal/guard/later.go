package guard

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/subjects"
)

// NATS has no permissions on headers. On the stream of delayed messages, which
// has schedules, one header takes the body from another message, of any user,
// and one removes all others. So what services publish there comes by the guard,
// which knows the headers that do no harm.

// mayCarry are the headers of NATS that a delayed message of a service may have.
var mayCarry = map[string]bool{
	"Nats-Schedule": true, "Nats-Schedule-Target": true, "Nats-Msg-Id": true, "Nats-Expected-Stream": true,
}

// dropped are headers that NATS itself sets on what comes by an import.
var dropped = map[string]bool{subjects.HeaderRequester: true, "Nats-Trace-Dest": true}

// laterOf is the subject that a service has published to, if it is that of a
// delayed message.
func laterOf(api []string) (subject string, ok bool) {
	if len(api) < 2 || api[0] != subjects.GuardedLater {
		return "", false
	}
	return subjects.LaterPrefix + strings.Join(api[1:], "."), true
}

// examineLater are the headers to store a delayed message with.
func examineLater(h nats.Header) (nats.Header, *refusal) {
	kept := make(nats.Header, len(h))
	for key, values := range h {
		switch {
		case dropped[key]:
			continue
		case len(key) >= 5 && strings.EqualFold(key[:5], "Nats-") && !mayCarry[key]:
			return nil, refuse("a delayed message cannot have the header %s: leave it out", key)
		}
		kept[key] = values
	}
	return kept, nil
}

// store stores a delayed message, and answers as JetStream does.
func (g *Guard) store(m *nats.Msg, subject string) {
	h, refused := examineLater(m.Header)
	if refused != nil {
		g.reply(m, refused.publication())
		return
	}
	msg := &nats.Msg{Subject: subject, Header: h, Data: m.Data}
	if m.Reply == "" {
		if err := g.nc.PublishMsg(msg); err != nil {
			g.log.Warn("delayed message of a service not passed on", "err", err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, within)
	defer cancel()
	answer, err := g.nc.RequestMsgWithContext(ctx, msg)
	switch {
	case err == nil:
		g.reply(m, answer.Data)
	case errors.Is(err, nats.ErrNoResponders):
		g.reply(m, (&refusal{503, 10008, "JetStream system temporarily unavailable"}).publication())
	}
}

// publication is the body that says so to who has published.
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
