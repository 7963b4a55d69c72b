package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	// heartbeat is how often a stream without news sends a comment, which keeps
	// proxies from closing it.
	heartbeat = 15 * time.Second
	// writeTimeout bounds a write to a client that does not read.
	writeTimeout = 2 * time.Minute
	eventStream  = "text/event-stream"
)

// streamOutput is an answer that is written as it comes.
type streamOutput struct {
	Body func(huma.Context)
}

// flushed writes parts of an answer, each at once. It is safe for concurrent
// use.
type flushed struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	ctl  *http.ResponseController
	dead error
	last time.Time
}

// newFlushed begins an answer of a type. Reading has no deadline from here on:
// the server's own would end the request.
func newFlushed(w http.ResponseWriter, contentType string) *flushed {
	f := &flushed{w: w, ctl: http.NewResponseController(w)}
	_ = f.ctl.SetReadDeadline(time.Time{})
	beginStream(w, contentType)
	_ = f.write("")
	return f
}

// beginStream writes the headers of an answer that comes in parts.
func beginStream(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Accel-Buffering", "no") // a proxy that holds back a stream ends its use
	w.WriteHeader(http.StatusOK)
}

// write reports why the client gets no more.
func (f *flushed) write(text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead != nil {
		return f.dead
	}
	f.last = time.Now()
	err := f.ctl.SetWriteDeadline(f.last.Add(writeTimeout))
	if errors.Is(err, http.ErrNotSupported) {
		err = nil
	}
	if err == nil {
		_, err = f.w.Write([]byte(text))
	}
	if err == nil {
		err = f.ctl.Flush()
	}
	if err != nil {
		f.dead = fmt.Errorf("api: the client does not read: %w", err)
	}
	return f.dead
}

// event writes one of Server-Sent Events. data is JSON, on one line.
func (f *flushed) event(kind, id string, data []byte) error {
	var b strings.Builder
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	if kind != "" {
		b.WriteString("event: " + oneLine(kind) + "\n")
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		b.WriteString("data: " + strings.TrimRight(line, "\r") + "\n")
	}
	b.WriteString("\n")
	return f.write(b.String())
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

// beat writes a comment when nothing else was written for a while, until ctx
// ends. It reports why the client gets no more.
func (f *flushed) beat(ctx context.Context) error {
	for {
		f.mu.Lock()
		due := f.last.Add(heartbeat)
		f.mu.Unlock()
		wait := time.Until(due)
		if wait <= 0 {
			if err := f.write(": still here\n\n"); err != nil {
				return err
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// stream runs an answer of Server-Sent Events: run writes it until ctx ends,
// which it does when the client goes away or the API stops. To HEAD it answers
// with the headers alone.
func (a *API) stream(c *call, run func(ctx context.Context, f *flushed) error) (*streamOutput, error) {
	if c.r.Method == http.MethodHead {
		return &streamOutput{Body: func(huma.Context) { beginStream(c.w, eventStream) }}, nil
	}
	release, ok := a.bounds.streams.TryAcquire(c.requester(), 1)
	if !ok {
		p := tooMany("too many streams of events are open")
		p.RetryAfterMs = heartbeat.Milliseconds()
		return nil, p
	}
	return &streamOutput{Body: func(huma.Context) {
		defer release()
		r := c.r
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(a.ctx, cancel)()
		f := newFlushed(c.w, eventStream)
		var beats sync.WaitGroup
		beats.Go(func() {
			if f.beat(ctx) != nil {
				cancel()
			}
		})
		if err := run(ctx, f); err != nil && ctx.Err() == nil {
			a.log.Warn("a stream of events ended", "path", r.URL.Path, "err", err)
		}
		cancel()
		beats.Wait()
	}}, nil
}
