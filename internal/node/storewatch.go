package node

import (
	"context"
	"time"
)

// storeEvery is how often watchStore looks at the store.
const storeEvery = 500 * time.Millisecond

// watchStore ends ctx when the store is broken.
func (n *Node) watchStore(ctx context.Context, broken context.CancelCauseFunc) {
	every(ctx, storeEvery, func() {
		if err := n.server.Broken(); err != nil {
			broken(err)
		}
	})
}
