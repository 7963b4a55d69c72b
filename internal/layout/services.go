package layout

import (
	"strings"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// Backend services are users of an account of their own beside the tenant's,
// with no streams in it. NATS publishes an answer wherever the requester asks,
// with the server's rights; between accounts it puts a reply subject of its own
// making in the place of the requester's, so what a service is answered can
// come back to it and go nowhere else.

// Names of senders that are no service's own. Devices see them as "service:NAME".
const (
	OperatorService = "operator" // an operator
	UnnamedService  = "nats"     // a service that published without RCCS in between
)

// Import is what the services' account may use of the tenant's.
type Import struct {
	// Local is the subject that services use, Subject what it is in the
	// tenant's account.
	Local, Subject string
	// Heard is what services subscribe to; else it is what they publish to.
	Heard bool
	// Many answers may come to one request, each within this of the one before;
	// 0: one answer.
	Many time.Duration
	// Share has what arrives say which user of the services' account asks, in
	// [HeaderRequester].
	Share bool
}

const (
	// What services publish to topics is mapped to topicsSaid in their account,
	// so that nobody hears it there, and imported as a topic. What a service
	// hears of topics is what the tenant's stream has stored, which that
	// publishes again as topicsHeard: NATS gives nothing that came by a service
	// import back by a stream import, on the same server.
	topicsSaid  = "rccs.say.>"
	topicsHeard = "rccs.heard.>"
	allTopics   = "rccs.topic.>"

	// someAnswers is what NATS falls back to, for all exports, whenever it is
	// handed the account's JWT anew: so nothing else would hold.
	someAnswers = 2 * time.Minute

	apiPrefix     = "$JS.API."
	guardedPrefix = "rccs.api."
	// deliverPrefix is before the subjects that services' push consumers
	// deliver to, in the tenant's account.
	deliverPrefix = "rccs.deliver."
)

// GuardedLater is, where JetStream's API would stand in the subject of a guarded
// request, what a service publishes to be delivered later; LaterPrefix is before
// the rest of it on the stream.
const (
	GuardedLater = "LATER"
	LaterPrefix  = laterPrefix
)

// HeardTopics is where the topics' stream publishes again what it has stored.
func HeardTopics() string { return topicsHeard }

// ServiceMappings are the subjects that the services' account maps to others.
func ServiceMappings() map[string]string { return map[string]string{allTopics: topicsSaid} }

// ServiceImports are all that services may use, and [ForService] what a single
// one of them may, which is the same in this version.
func ServiceImports() []Import {
	all := []Import{
		{Subject: "rccs.inbox.*.*.*"},
		{Local: laterPrefix + ">", Subject: guardedPrefix + GuardedLater + ".>", Share: true},
		{Subject: "rccs.route.*.*", Share: true},
		{Subject: "rccs.route.*.*.*", Share: true},
		{Subject: "rccs.signal.*.*"},
		{Subject: "rccs.rpc.*.*.*", Many: someAnswers, Share: true},
		{Local: topicsSaid, Subject: allTopics},
		{Subject: "rccs.coordinator.*", Share: true},
		{Subject: "$SRV.>", Many: someAnswers},
		{Subject: "$JS.API.INFO"},
		{Subject: "$JS.API.STREAM.NAMES"},
		{Subject: "$JS.API.STREAM.LIST"},
		{Subject: "$JS.API.STREAM.INFO." + subjects.StreamLater},
		guarded("STREAM.PURGE." + subjects.StreamLater),
		{Local: allTopics, Subject: topicsHeard, Heard: true},
		{Subject: "rccs.up.>", Heard: true},
		{Subject: "rccs.event.>", Heard: true},
		{Subject: deliverPrefix + "_INBOX.>", Local: "_INBOX.>", Heard: true},
	}
	for _, stream := range []string{subjects.StreamUp, subjects.StreamEvent, subjects.StreamTopic} {
		all = append(all,
			Import{Subject: "$JS.API.STREAM.INFO." + stream},
			Import{Subject: "$JS.API.DIRECT.GET." + stream, Many: someAnswers}, Import{Subject: "$JS.API.DIRECT.GET." + stream + ".>"},
			guarded("CONSUMER.CREATE."+stream), guarded("CONSUMER.CREATE."+stream+".>"),
			guarded("CONSUMER.DURABLE.CREATE."+stream+".>"), guarded("CONSUMER.INFO."+stream+".>"),
			guarded("CONSUMER.LIST."+stream), guarded("CONSUMER.NAMES."+stream), guarded("CONSUMER.DELETE."+stream+".>"),
			Import{Subject: "$JS.API.CONSUMER.MSG.NEXT." + stream + ".>", Many: someAnswers},
			Import{Subject: "$JS.ACK." + stream + ".>", Many: someAnswers}, Import{Subject: "$JS.FC." + stream + ".>"})
	}
	for n := range all {
		if all[n].Local == "" {
			all[n].Local = all[n].Subject
		}
	}
	return all
}

// guarded is a part of JetStream's API in which a service could name a subject
// of the tenant's account, or meet a consumer of RCCS itself: the coordinator looks
// at such requests first.
func guarded(api string) Import {
	return Import{Local: apiPrefix + api, Subject: guardedPrefix + api, Share: true}
}

// Guarded are all requests that the coordinator looks at.
func Guarded() string { return guardedPrefix + ">" }

// GuardedAPI is where such a request arrives, of which api is JetStream's own
// subject without the prefix.
func GuardedAPI(api string) string { return guardedPrefix + api }

// ParseGuarded is JetStream's own subject of such a request, without the prefix
// of its API, by tokens.
func ParseGuarded(subject string) (api []string, ok bool) {
	rest, ok := strings.CutPrefix(subject, guardedPrefix)
	return strings.Split(rest, "."), ok
}

// JetStreamAPI is the subject of a request to JetStream.
func JetStreamAPI(tokens ...string) string { return apiPrefix + strings.Join(tokens, ".") }

// Deliver is where a push consumer of a service, which listens on subject,
// delivers to in the tenant's account. ok is false where a service cannot
// listen.
func Deliver(subject string) (string, bool) {
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '*' || r == '>' }
	if !strings.HasPrefix(subject, "_INBOX.") || strings.ContainsFunc(subject, odd) {
		return "", false
	}
	return deliverPrefix + subject, true
}

// DeliverPrefix is what [Deliver] puts before a subject.
const DeliverPrefix = deliverPrefix
