package limit

import (
	"strconv"
	"testing"
	"time"
)

func TestTakeWaitsUntilThereAreTokens(t *testing.T) {
	t.Parallel()
	b, now := New[string](10, 20, 100), time.Unix(1, 0)
	for i := range 20 {
		if wait := b.Take("a", 1, now); wait != 0 {
			t.Fatalf("take %d of the burst waits %s", i, wait)
		}
	}
	if wait := b.Take("a", 1, now); wait != 100*time.Millisecond {
		t.Errorf("waits %s, want 100ms", wait)
	}
	if wait := b.Take("b", 20, now); wait != 0 {
		t.Errorf("another key waits %s", wait)
	}
	if wait := b.Take("a", 1, now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("a key that waited waits %s again", wait)
	}
	if wait := b.Take("c", 1000, now); wait != 0 {
		t.Errorf("more than a burst waits %s when the bucket is full", wait)
	}
	b.Return("c", 5, now)
	if wait := b.Take("c", 5, now); wait != 0 {
		t.Errorf("what was returned waits %s", wait)
	}
	if wait := b.Take("a", 1, now.Add(-time.Hour)); wait < 0 || wait > time.Second {
		t.Errorf("with a clock that went back it waits %s", wait)
	}
}

func TestFullBucketsAreForgotten(t *testing.T) {
	t.Parallel()
	b, now := New[string](10, 20, 100), time.Unix(1, 0)
	for _, key := range []string{"a", "b", "c"} {
		b.Take(key, 20, now)
	}
	b.Take("d", 1, now.Add(time.Second))
	if len(b.all) != 4 {
		t.Errorf("%d keys, want those that are not full and the new one", len(b.all))
	}
	b.Take("e", 1, now.Add(time.Minute))
	if len(b.all) != 1 {
		t.Errorf("%d keys, want the new one", len(b.all))
	}
}

func TestKeysOfAFullTableShareABucket(t *testing.T) {
	t.Parallel()
	const keys = 1 << 10
	b, now := New[string](1, 2, keys), time.Unix(1, 0)
	for i := range keys {
		b.Take(strconv.Itoa(i), 1, now)
	}
	for _, late := range []string{"x", "y"} {
		if wait := b.Take(late, 1, now); wait != 0 {
			t.Fatalf("%s waits %s", late, wait)
		}
	}
	if b.Take("z", 1, now) == 0 {
		t.Error("keys that come late do not share a bucket")
	}
	if len(b.all) > keys+1 {
		t.Errorf("%d keys", len(b.all))
	}
}

func TestNilTableHasNoLimit(t *testing.T) {
	t.Parallel()
	b := New[string](0, 0, 100)
	b.Return("a", 1, time.Now())
	if wait := b.Take("a", 1e9, time.Now()); wait != 0 {
		t.Errorf("no limit waits %s", wait)
	}
}
