package edge

import (
	"strconv"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	b, now := newBuckets(10, 20), time.Unix(1, 0)
	for i := range 20 {
		if wait := b.take(limitKey{name: "a"}, 1, now); wait != 0 {
			t.Fatalf("take %d of the burst waits %s", i, wait)
		}
	}
	if wait := b.take(limitKey{name: "a"}, 1, now); wait != 100*time.Millisecond {
		t.Errorf("waits %s, want 100ms", wait)
	}
	if wait := b.take(limitKey{name: "b"}, 20, now); wait != 0 {
		t.Errorf("another waits %s", wait)
	}
	if wait := b.take(limitKey{name: "a"}, 1, now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("who waited waits %s again", wait)
	}
	if wait := b.take(limitKey{name: "c"}, 1000, now); wait != 0 {
		t.Errorf("more than a burst waits %s when the bucket is full", wait)
	}
	b.give(limitKey{name: "c"}, 5, now)
	if wait := b.take(limitKey{name: "c"}, 5, now); wait != 0 {
		t.Errorf("what was given back waits %s", wait)
	}
	if wait := b.take(limitKey{name: "a"}, 1, now.Add(-time.Hour)); wait < 0 || wait > time.Second {
		t.Errorf("a clock that went back waits %s", wait)
	}
	b.sweep(now.Add(time.Second))
	if len(b.all) != 3 {
		t.Errorf("%d names, want those that are not full", len(b.all))
	}
	b.sweep(now.Add(time.Minute))
	if len(b.all) != 0 {
		t.Errorf("%d full buckets are kept", len(b.all))
	}
}

func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	b, now := newBuckets(1, 2), time.Unix(1, 0)
	for i := range maxBuckets {
		b.take(limitKey{name: strconv.Itoa(i)}, 1, now)
	}
	for _, late := range []string{"x", "y"} {
		if wait := b.take(limitKey{name: late}, 1, now); wait != 0 {
			t.Fatalf("%s waits %s", late, wait)
		}
	}
	if b.take(limitKey{name: "z"}, 1, now) == 0 {
		t.Error("those who come late do not share a bucket")
	}
	if len(b.all) > maxBuckets+1 {
		t.Errorf("%d names", len(b.all))
	}
}

func TestNoBuckets(t *testing.T) {
	t.Parallel()
	b := newBuckets(0, 0)
	b.sweep(time.Now())
	b.give(limitKey{name: "a"}, 1, time.Now())
	if wait := b.take(limitKey{name: "a"}, 1e9, time.Now()); wait != 0 {
		t.Errorf("no limit waits %s", wait)
	}
}
