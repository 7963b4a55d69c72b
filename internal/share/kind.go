package share

import (
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Kind is what a share is of.
type Kind uint8

// What there are shares of.
const (
	Inbox Kind = iota
	Later      // delayed messages
	Up         // messages to services
	Topic
	Route // messages that wait for a suitable device
	Task
	kinds
)

// kindInfo is what is known of a kind beforehand.
type kindInfo struct {
	name   string // of the metric
	what   string // for people
	stream string
	// filter covers what is stored of a user; nil: it cannot be told by subject.
	filter func(subjects.UserID) string
	// whose says whose an entry is: a key of a device, or a user's token. Not ok
	// is nobody's.
	whose func(*proof.Key, *reader.Entry) (k subjects.Key, ok bool)
	// trims: a look makes room.
	trims bool
	// eighths of the stream's bound are what the devices of a tenant may take
	// together. Of tasks the rest is for those that are moved or kept, of what waits
	// for a device it is for what services publish. 0: the stream refuses by itself.
	eighths int64
}

var infos = [kinds]kindInfo{
	Inbox: {
		"inbox", "inboxes", layout.StreamInbox,
		func(u subjects.UserID) string { return subjects.Scope{User: u}.Inboxes() },
		inSubject(subjects.ParseInbox),
		true, 0,
	},
	Later: {
		"later", "delayed messages", subjects.StreamLater,
		func(u subjects.UserID) string { return subjects.Scope{User: u}.Laters() },
		inSubject(subjects.ParseLater),
		false, 8,
	},
	Up: {
		"up", "messages to services", subjects.StreamUp,
		func(u subjects.UserID) string { return subjects.Scope{User: u}.Ups() },
		inSubject(subjects.ParseUp),
		true, 0,
	},
	Topic: {"topic", "topics", subjects.StreamTopic, nil, publisher, true, 0},
	Route: {
		"route", "messages that wait for a suitable device", layout.StreamRoute,
		layout.Wait,
		func(_ *proof.Key, e *reader.Entry) (subjects.Key, bool) {
			user, ok := layout.ParseWait(e.Subject)
			return subjects.Key(subjects.Escape(string(user))), ok
		},
		false, 7,
	},
	Task: {
		"task", "tasks", "KV_" + layout.BucketTasks,
		layout.Tasks,
		func(_ *proof.Key, e *reader.Entry) (subjects.Key, bool) {
			user, ok := layout.ParseTaskUser(e.Subject)
			return subjects.Key(user), ok
		},
		false, 7,
	},
}

// String is the kind's name in metrics.
func (k Kind) String() string { return infos[k].name }

// inSubject is the device in an entry's subject, as parse reads it.
func inSubject[T any](parse func(string) (subjects.Key, T, bool)) func(*proof.Key, *reader.Entry) (subjects.Key, bool) {
	return func(_ *proof.Key, e *reader.Entry) (subjects.Key, bool) {
		k, _, ok := parse(e.Subject)
		return k, ok
	}
}

// publisher is the device that published a message of a topic.
func publisher(p *proof.Key, e *reader.Entry) (subjects.Key, bool) {
	return envelope.TopicShare(p, envelope.Stored(*e))
}
