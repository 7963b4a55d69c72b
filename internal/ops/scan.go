package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/rccs-io/rccs/internal/reader"
)

// scan reads the headers of what a stream holds since a time on the subjects
// of a filter; empty: all.
func (t *Tenant) scan(ctx context.Context, stream, filter string, since time.Time, progress func(done, all int), found func(*reader.Entry)) error {
	return t.follow(ctx, stream, filter, since, true, progress, found)
}

// read is scan with bodies, from the beginning.
func (t *Tenant) read(ctx context.Context, stream, filter string, found func(*reader.Entry)) error {
	return t.follow(ctx, stream, filter, time.Time{}, false, nil, found)
}

func (t *Tenant) follow(
	ctx context.Context, stream, filter string, since time.Time, headers bool, progress func(done, all int), found func(*reader.Entry),
) error {
	last, err := t.head(ctx, stream)
	if err != nil {
		return err
	}
	from := uint64(1)
	if !since.IsZero() {
		if from, err = t.at(ctx, stream, since); err != nil {
			return err
		}
	}
	if from > last {
		return nil
	}
	opts := reader.Options{Conn: t.nc, Stream: stream, Shard: t.shard, FromStart: true, After: from - 1, HeadersOnly: headers, Logger: t.log}
	if filter != "" {
		opts.Filter = []string{filter}
	}
	opts.Handle = func(e reader.Entry) {
		found(&e)
		if progress != nil && e.Seq%256 == 0 {
			progress(int(min(e.Seq, last)-from), int(last-from)) //nolint:gosec // it is for a bar of progress
		}
	}
	r, err := reader.New(opts)
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return fmt.Errorf("ops: search %s: %w", stream, err)
	}
	return r.Stop(ctx) // after it nothing is handed out any more
}
