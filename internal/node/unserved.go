package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// unserved are the tenants that a process is to serve and could not start yet, each
// with the reason. Its zero value has none.
type unserved struct {
	mu  sync.Mutex
	why map[string]error
}

// set says why a tenant is not served; nil: it is, or is not to be any more.
func (u *unserved) set(tenant string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err == nil {
		delete(u.why, tenant)
		return
	}
	if u.why == nil {
		u.why = make(map[string]error)
	}
	u.why[tenant] = err
}

// addTo adds them to what a process cannot serve, by name.
func (u *unserved) addTo(h *health) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, tenant := range slices.Sorted(maps.Keys(u.why)) {
		h.add(tenant, false, u.why[tenant])
	}
}

// count is how many there are.
func (u *unserved) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.why)
}

// oneLine is an error of several tenants, for where it is one value of many.
func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// later serves tenants that need not be there when a process starts: each is tried
// by itself, until it is served. What is wrong with one keeps no other waiting.
type later struct {
	log     *slog.Logger
	serve   func(context.Context, Login) error
	missing *unserved

	cancel context.CancelFunc
	trying sync.WaitGroup // until each was tried once
	wg     sync.WaitGroup
}

// start begins to serve the tenants of logins.
func (l *later) start(logins []Login) {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for _, login := range logins {
		l.missing.set(login.name(), errStarting)
		l.trying.Add(1)
		l.wg.Go(func() {
			tried := sync.OnceFunc(l.trying.Done)
			defer tried()
			for l.try(ctx, login) != nil {
				tried()
				select {
				case <-time.After(again):
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

var errStarting = errors.New("it is being started")

// startTimeout bounds one try to serve a tenant.
const startTimeout = time.Minute

// try tries to serve a tenant.
func (l *later) try(ctx context.Context, login Login) error {
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := l.serve(bounded, login)
	switch {
	case err == nil:
		l.missing.set(login.name(), nil)
		l.log.Info("tenant is served", "tenant", login.name())
	case ctx.Err() == nil:
		l.missing.set(login.name(), err) // readiness has it in the log
	}
	return err
}

// firstTries returns when each tenant was tried once, or when that takes too long:
// a process that starts does not let devices of a tenant come before it is served,
// if that is a matter of moments.
func (l *later) firstTries(ctx context.Context) {
	done := make(chan struct{})
	l.wg.Go(func() {
		l.trying.Wait()
		close(done)
	})
	select {
	case <-done:
	case <-time.After(firstTriesTimeout):
	case <-ctx.Done():
	}
}

const firstTriesTimeout = 5 * time.Second

// stop ends the tries.
func (l *later) stop() {
	l.cancel()
	l.wg.Wait()
}
