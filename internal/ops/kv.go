package ops

import "github.com/nats-io/nats.go"

// deleted says whether an entry of a bucket is the mark of a deletion.
func deleted(h nats.Header) bool {
	op := h.Get("KV-Operation")
	return op == "DEL" || op == "PURGE"
}
