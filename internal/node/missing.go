package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/ops"
)

const (
	// pollEvery is how often a watch asks whether a tenant's streams are there, and
	// whether some of them answer.
	pollEvery = 5 * time.Second
	// pollTimeout bounds one question.
	pollTimeout = 10 * time.Second
)

// streamWatch knows which streams of a tenant are missing or answer nobody, buckets
// among them. A reader finds out by itself that its stream is gone. But most
// streams are only written to, or asked for single messages.
type streamWatch struct {
	js      jetstream.JetStream
	names   []string
	missing atomic.Pointer[[]string]
	answers *answerWatch
	cancel  context.CancelFunc
	done    chan struct{}
}

// watchStreams watches the streams of a tenant with so many shards, until stop is
// called. Of those whose names are needed it asks each whether it answers.
func watchStreams(nc *nats.Conn, shards int, needed func(name string) bool) (*streamWatch, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &streamWatch{
		js: js, names: backbone.StreamsOf(shards), answers: newAnswerWatch(js, needed), cancel: cancel, done: make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		every(ctx, pollEvery, func() { w.poll(ctx) })
	}()
	return w, nil
}

func (w *streamWatch) stop() {
	w.cancel()
	<-w.done
}

func (w *streamWatch) poll(ctx context.Context) {
	w.list(ctx)
	w.answers.poll(ctx, w.names)
}

// list asks which streams are there. Without an answer, the one before stands.
func (w *streamWatch) list(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	there := make(map[string]bool)
	list := w.js.StreamNames(ctx)
	for name := range list.Name() {
		there[name] = true
	}
	if list.Err() != nil {
		return
	}
	var missing []string
	for _, name := range w.names {
		if there[name] {
			continue
		}
		// A list may be of a server that does not know all yet.
		if _, err := w.js.Stream(ctx, name); errors.Is(err, jetstream.ErrStreamNotFound) {
			missing = append(missing, name)
		}
	}
	w.missing.Store(&missing)
}

// healthy returns which streams are missing or answer nobody, of those whose names
// are needed.
func (w *streamWatch) healthy(needed func(name string) bool) error {
	var names []string
	if missing := w.missing.Load(); missing != nil {
		for _, name := range *missing {
			if needed(name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		return w.answers.healthy(needed)
	case 1:
		return fmt.Errorf("stream %s is missing: %s", names[0], ops.MakeAnew)
	}
	return fmt.Errorf("streams %s are missing: %s", strings.Join(names, ", "), ops.MakeAnew)
}

// everyStream is for those who need all streams of the tenant.
func everyStream(string) bool { return true }
