package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

const (
	queue = "rccs-guard"
	// atOnce bounds the requests that are under way; more wait, by service.
	atOnce = 64
	// backlog bounds how many wait, and waitingBytes how much, of which serviceBytes
	// may be of one service. A service past any of them is told so, and others go on.
	backlog      = 64 << 10
	waitingBytes = 512 << 20
	serviceBytes = 32 << 20
	// within bounds how long JetStream may take to answer.
	within = 10 * time.Second
	// startWithin bounds how long a start waits until the server has the subscription.
	startWithin = time.Minute
)

// Options are what a guard needs to know.
type Options struct {
	// MaxDelay is how far ahead a schedule may lie; 0 is [wire.MaxDelay].
	MaxDelay time.Duration
	// Undeliverable, if set, is called for each message of a service that was
	// refused without anybody waiting for an answer.
	Undeliverable func(reason string)
	// Shares bound what services delay; nil: nothing does.
	Shares Shares
	// Waiting returns the sequence of what is stored on a subject of delayed
	// messages; 0: nothing is. A note, if there is one, is stored together with the
	// message that takes its place, and has its sender told. Nil: nobody is told.
	Waiting func(ctx context.Context, subject string) (seq uint64, note *nats.Msg, err error)
	// Purge removes a user's delayed messages as JetStream does, and has their senders
	// told; it returns how many. Nil: JetStream is asked, and nobody is told.
	Purge func(ctx context.Context, filter string, seq, keep uint64) (uint64, error)
	// Shards is how many shards the tenant has; 0 is 1.
	Shards int
	// Logger is needed.
	Logger *slog.Logger
}

// Shares bound what is stored; [share.Shares] is the one of a shard.
type Shares interface {
	Admit(k share.Kind, key subjects.Key, size int) *wire.Error
}

// Guard is a guard that runs. [Start] makes one.
type Guard struct {
	nc   *nats.Conn
	opts Options
	log  *slog.Logger
	sub  *nats.Subscription
	work *pool.Pool
	room *pool.Places // bytes of what is taken and not answered yet
	seed maphash.Seed
	// replacing is held while a delayed message is replaced, by the hash of its subject.
	replacing [atOnce]sync.Mutex

	ctx    context.Context //nolint:containedctx // of the requests
	cancel context.CancelFunc
}

// Start returns when requests are answered. The connection's reply subjects must
// lie where no service can listen.
func Start(nc *nats.Conn, opts Options) (*Guard, error) {
	if opts.Shares == nil {
		opts.Shares = (*share.Shares)(nil)
	}
	g := &Guard{nc: nc, opts: opts, log: opts.Logger, work: pool.New(atOnce, backlog), room: pool.NewPlaces(waitingBytes, serviceBytes), seed: maphash.MakeSeed()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	sub, err := nc.QueueSubscribe(layout.Guarded(), queue, g.onRequest)
	if err == nil {
		err = nc.FlushTimeout(startWithin)
	}
	if err != nil {
		g.cancel()
		return nil, fmt.Errorf("guard: %w", err)
	}
	g.sub = sub
	return g, nil
}

// Stop answers the requests that were taken before, until ctx ends.
func (g *Guard) Stop(ctx context.Context) {
	defer context.AfterFunc(ctx, g.cancel)()
	stops.Drain(ctx, g.nc, g.sub)
	g.work.Stop()
	g.cancel()
}

func (g *Guard) onRequest(m *nats.Msg) {
	// A request that came another way than by the import has rights of its own.
	if m.Reply != "" && !layout.IsClientReply(m.Reply) {
		return
	}
	service := headers.Requester(m)
	// NATS does not say who asks for the state of the delayed messages, since services
	// may ask JetStream itself for it. No record names them.
	if service == headers.Hidden && m.Subject != layout.GuardedAPI(streamInfo+subjects.StreamLater) {
		g.hidden(m)
		return
	}
	if release, ok := g.room.TryAcquire(service, int64(m.Size())); ok {
		if g.work.RunInTurn(service, func() { defer release(); g.answer(m) }) {
			return
		}
		release()
	}
	g.busy(m)
}

// busy tells a service that too many of its requests wait for an answer.
func (g *Guard) busy(m *nats.Msg) {
	api, _ := layout.ParseGuarded(m.Subject)
	if subject, later := laterOf(api); later && m.Reply == "" {
		g.tell(subjects.EventFull, subject, m.Header, map[string]any{})
		return
	}
	const text = "too many requests of this service are waiting, try again"
	g.refuse(m, api, &refusal{503, storeFailed, text}, &refusal{503, 10008, text})
}

// hidden refuses a request that does not show which service asks. The record could not
// name that service, and a revocation could not end what it has delayed.
func (g *Guard) hidden(m *nats.Msg) {
	api, _ := layout.ParseGuarded(m.Subject)
	g.log.Debug("request of a service refused: it hides who asks", "subject", m.Subject)
	r := refuse(headers.HidesRequester)
	g.refuse(m, api, r, r)
}

// refuse answers a publication, or a request to JetStream's API, with an error.
func (g *Guard) refuse(m *nats.Msg, api []string, publication, request *refusal) {
	if _, later := laterOf(api); later {
		g.reply(m, publication.publication())
		return
	}
	g.reply(m, request.answer(answerOf(api)))
}

// answer examines a request, passes it to JetStream, and gives the answer back.
func (g *Guard) answer(m *nats.Msg) {
	api, _ := layout.ParseGuarded(m.Subject)
	if subject, ok := laterOf(api); ok {
		g.store(m, subject)
		return
	}
	if m.Reply == "" {
		return // nobody waits
	}
	if g.opts.Shards > 1 && strings.Join(api, ".") == streamInfo+subjects.StreamLater {
		g.reply(m, g.infoOfAll(m.Data))
		return
	}
	kind, body, refused := examine(api, m.Data)
	if refused != nil {
		g.reply(m, refused.answer(kind))
		return
	}
	if answer, purged := g.purge(api, body); purged {
		g.reply(m, answer)
		return
	}
	answer, err := g.ask(g.inShard(api, body), kept(m.Header), body)
	switch {
	case err == nil:
		g.reply(m, shown(answer))
	case errors.Is(err, nats.ErrNoResponders):
		g.reply(m, (&refusal{503, 10008, "JetStream system temporarily unavailable"}).answer(kind))
	}
	// Any other error is a time-out: JetStream has not answered either.
}

// ask makes a request to JetStream's API. A list of consumers comes back without
// those of RCCS.
func (g *Guard) ask(api []string, h nats.Header, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(g.ctx, within)
	defer cancel()
	once := func(body []byte) ([]byte, error) {
		answer, err := g.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: layout.JetStreamAPI(api...), Header: h, Data: body})
		if err != nil {
			return nil, err
		}
		return answer.Data, nil
	}
	answer, err := once(body)
	if err == nil && isList(api) {
		answer, err = withoutOurs(answer, once, body)
	}
	return answer, err
}

// kept returns the header that JetStream reads: which level of its API is required.
func kept(h nats.Header) nats.Header {
	const required = "Nats-Required-Api-Level"
	if v, ok := h[required]; ok {
		return nats.Header{required: v}
	}
	return nil
}

// shown returns an answer with the subjects of push consumers as services know them.
func shown(answer []byte) []byte {
	const name = `"deliver_subject":"`
	return bytes.ReplaceAll(answer, []byte(name+layout.DeliverPrefix), []byte(name))
}
