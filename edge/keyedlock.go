package edge

import (
	"context"
	"errors"
	"sync"

	"github.com/rccs-io/rccs/subjects"
)

// keyedLock has a lock for each device, which exists while somebody holds it or
// waits for it. The zero value is ready for use. It is safe for concurrent use.
type keyedLock struct {
	mu    sync.Mutex
	locks map[subjects.Key]*deviceLock
}

type deviceLock struct {
	free  chan struct{} // holds one token while nobody has the lock
	users int           // that hold it or wait for it
	last  int           // number of the last that came
}

// errSuperseded means that a newer registration came while this one waited for
// the lock.
var errSuperseded = errors.New("a newer connection is waiting")

// Lock waits for the device's lock; unlock returns it. If a newer registration is
// waiting, Lock returns [errSuperseded]: of many that race only the last does the
// work.
func (l *keyedLock) Lock(ctx context.Context, k subjects.Key) (unlock func(), err error) {
	d, mine := l.join(k)
	select {
	case <-d.free:
		unlock = func() {
			d.free <- struct{}{}
			l.leave(k, d)
		}
		l.mu.Lock()
		superseded := mine != d.last
		l.mu.Unlock()
		if superseded {
			unlock()
			return nil, errSuperseded
		}
		return unlock, nil
	case <-ctx.Done():
		l.leave(k, d)
		return nil, ctx.Err()
	}
}

// join counts one more that wants the device's lock, and numbers it.
func (l *keyedLock) join(k subjects.Key) (d *deviceLock, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locks == nil {
		l.locks = make(map[subjects.Key]*deviceLock)
	}
	d = l.locks[k]
	if d == nil {
		d = &deviceLock{free: make(chan struct{}, 1)}
		d.free <- struct{}{}
		l.locks[k] = d
	}
	d.users++
	d.last++
	return d, d.last
}

// leave removes the lock with its last user.
func (l *keyedLock) leave(k subjects.Key, d *deviceLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(l.locks, k)
	}
}

// busy reports whether somebody has the device's lock or waits for it.
func (l *keyedLock) busy(k subjects.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locks[k] != nil
}
