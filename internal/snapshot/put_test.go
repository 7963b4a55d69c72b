package snapshot

import (
	"testing"
	"time"
)

// The server breaks off a restore when one piece takes it more than 5 s. No piece does
// that on a store that takes 4 KiB in that time, or gets ten times slower at once.
func TestASlowStoreGetsSmallPieces(t *testing.T) {
	t.Parallel()
	const most, all = 256 << 10, 16 << 20
	for _, rate := range []int{4 << 10, 64 << 10, 1 << 20, 64 << 20} { // bytes a second
		size, longest, largest := firstPiece, time.Duration(0), 0
		for sent := 0; sent < all; sent += size {
			now := rate
			if sent > all/2 {
				now = max(rate/10, 1<<10)
			}
			took := time.Duration(size) * time.Second / time.Duration(now)
			longest, largest = max(longest, took), max(largest, size)
			size = pieceAfter(size, took, most)
		}
		if longest > 4*time.Second {
			t.Errorf("at %d bytes a second a piece took %s", rate, longest)
		}
		if rate == 64<<20 && largest != most {
			t.Errorf("at %d bytes a second no piece was larger than %d", rate, largest)
		}
	}
	if size := pieceAfter(1<<10, 0, 1<<10); size != 1<<10 {
		t.Errorf("a piece of %d is larger than a message may be", size)
	}
}
