package natstest

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Kill ends the server as kill -9 would: nothing is flushed and nobody is told.
// What the server had written is what the next [Env.Start] finds; what it held
// only in memory is gone. It is for servers without [Listen].
//
// A server in the test's own process cannot be killed, so Kill first cuts
// every connection, so that nothing can be acknowledged any more, then copies
// the store as the operating system has it, and goes on with the copy.
func (e *Env) Kill() {
	e.tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv == nil {
		return
	}
	if e.conf.listen {
		e.tb.Fatal("natstest: Kill needs a server without natstest.Listen()")
	}
	e.cutLocked()
	if !e.quietLocked() {
		e.tb.Fatal("natstest: Kill: the server kept its clients")
	}
	left, err := e.copyStoreLocked()
	if err != nil {
		e.tb.Fatalf("natstest: Kill: copy the store: %v", err)
	}
	e.stopLocked()
	e.dir = left
}

// copyStoreLocked tries again when a file went away below the copy, as the
// server's temporary files do.
func (e *Env) copyStoreLocked() (string, error) {
	var err error
	for range 10 {
		left := e.tb.TempDir()
		if err = os.CopyFS(left, os.DirFS(e.dir)); err == nil {
			return left, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return "", err
}

// quietLocked waits until the server has let go of its clients. New ones
// cannot come: InProcessConn needs the lock.
func (e *Env) quietLocked() bool {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if e.srv.NumClients() == 0 {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// Cut closes every connection made by [Env.Conn] at this moment, without
// warning. The clients reconnect at once; the server goes on.
func (e *Env) Cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cutLocked()
}

func (e *Env) cutLocked() {
	for c := range e.conns {
		_ = c.Conn.Close() // the wrapper's Close would want the lock
		delete(e.conns, c)
	}
}

// InProcessConn makes an Env a nats.InProcessConnProvider, which outlives a
// restart of the server, so that connections do too.
func (e *Env) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv == nil {
		return nil, errDown
	}
	inner, err := e.srv.InProcessConn()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, env: e}
	e.conns[c] = struct{}{}
	return c, nil
}

// StoreDir is where the server keeps, or will keep, its store. [Env.Kill]
// changes it.
func (e *Env) StoreDir() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return filepath.Clean(e.dir)
}

// conn is a client's end of an in-memory connection, known to its Env for as
// long as it is open.
type conn struct {
	net.Conn
	env *Env
}

func (c *conn) Close() error {
	c.env.mu.Lock()
	delete(c.env.conns, c)
	c.env.mu.Unlock()
	return c.Conn.Close()
}
