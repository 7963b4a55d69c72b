package reader

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ended is called when the copy that the consumer reads has nothing behind seq.
func (r *Reader) ended(seq uint64) {
	if seq >= r.upTo {
		r.caughtUp()
		return
	}
	r.idle()
}

// idle is called when the consumer has nothing to deliver now. The last messages
// of those that were stored before the start may have been removed meanwhile:
// then none comes that says that none is left. Or the copy that the consumer reads
// may lack them still.
func (r *Reader) idle() {
	select {
	case <-r.caught:
		return
	default:
	}
	r.quiet.Set()
}

// askPending asks the server whether all is read, received messages included.
func (r *Reader) askPending(ctx context.Context, p *pull) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	consumer, err := r.js.Consumer(ctx, r.opts.Stream, p.name)
	if err != nil {
		return // the next heartbeat asks again
	}
	info := consumer.CachedInfo()
	p.mu.Lock()
	all := info.NumPending == 0 && info.Delivered.Consumer == p.next-1
	p.mu.Unlock()
	if !all {
		return
	}
	switch lacks, err := r.lacks(ctx); {
	case err != nil, lacks && time.Since(p.began) < r.opts.Heartbeat: // the next heartbeat asks again
	case lacks:
		r.replace("the copy that was read lags behind")
	default:
		r.caughtUp()
	}
}

// lacks reports whether the stream's leader has a message that is wanted, was
// stored before the start, and has not come. The copy that the consumer reads may
// be that of a server that has just come back.
func (r *Reader) lacks(ctx context.Context) (bool, error) {
	if r.last.Load() >= r.upTo {
		return false, nil
	}
	filter := r.opts.Filter
	if len(filter) == 0 {
		filter = []string{">"}
	}
	for _, subject := range filter {
		seq, err := r.next(ctx, subject)
		if err != nil || seq != 0 && seq <= r.upTo {
			return err == nil, err
		}
	}
	return false, nil
}

// next asks the leader for the sequence of the first message on a subject that has
// not been handed out; 0 if there is none.
func (r *Reader) next(ctx context.Context, subject string) (uint64, error) {
	body, err := json.Marshal(map[string]any{"seq": r.last.Load() + 1, "next_by_subj": subject})
	if err != nil {
		return 0, err
	}
	answer, err := r.opts.Conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+r.opts.Stream, body)
	if err != nil {
		return 0, err
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return 0, err
	}
	if got.Error != nil && got.Error.Code == http.StatusServiceUnavailable {
		return 0, got.Error // it has no leader now
	}
	return got.Message.Seq, nil // any other error: there is none, or none that can be read
}

func (r *Reader) caughtUp() { r.once.Do(func() { close(r.caught) }) }
