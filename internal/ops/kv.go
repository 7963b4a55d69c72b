package ops

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/reader"
)

// deleted reports whether an entry of a bucket is the mark of a deletion.
func deleted(h nats.Header) bool {
	op := h.Get("KV-Operation")
	return op == "DEL" || op == "PURGE"
}

// scanEntries looks at every entry of a bucket; gone says that it is the mark
// of a deletion.
func (t *Tenant) scanEntries(ctx context.Context, stream string, found func(gone bool)) error {
	return t.scan(ctx, stream, "", time.Time{}, nil, func(e *reader.Entry) { found(deleted(e.Header)) })
}
