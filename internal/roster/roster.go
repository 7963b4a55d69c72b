package roster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Options are what a roster needs.
type Options struct {
	// Read follows the bucket.
	Read *nats.Conn
	// Put stores one entry: it must not block for long, and calls done once.
	Put func(subject string, data []byte, done func(error))
	// Logger; nil discards.
	Logger *slog.Logger
}

// Roster is the devices of one tenant.
type Roster struct {
	opts   Options
	reader *reader.Reader
	// stopped ends the storing of what could not be stored yet.
	stopped atomic.Bool

	mu    sync.RWMutex
	users map[string]map[subjects.Key]*Record // by the user's token
	count int
}

// New makes a roster; nothing runs until Start.
func New(opts Options) (*Roster, error) {
	if opts.Read == nil || opts.Put == nil {
		return nil, errors.New("roster: Read and Put are needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Roster{opts: opts, users: make(map[string]map[subjects.Key]*Record)}
	rd, err := reader.New(reader.Options{
		Conn: opts.Read, Stream: "KV_" + subjects.BucketDevices, FromStart: true,
		Handle: r.handle, Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	r.reader = rd
	return r, nil
}

// Start returns when every stored record has been read.
func (r *Roster) Start(ctx context.Context) error { return r.reader.Start(ctx) }

// Stop ends the reading.
func (r *Roster) Stop(ctx context.Context) error {
	r.stopped.Store(true)
	return r.reader.Stop(ctx)
}

// handle applies one entry of the bucket.
func (r *Roster) handle(e reader.Entry) {
	key, ok := subjects.ParseDeviceSubject(e.Subject)
	if !ok {
		return
	}
	if op := e.Header.Get("KV-Operation"); op == "DEL" || op == "PURGE" {
		r.remove(key)
		return
	}
	rec, err := parseRecord(e.Data)
	if err != nil {
		r.opts.Logger.Warn("unreadable device record ignored", "device", string(key), "err", err)
		return
	}
	r.set(key, rec)
}

func userOf(k subjects.Key) string {
	user, _, _ := strings.Cut(string(k), ".")
	return user
}

func (r *Roster) set(k subjects.Key, rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	devices := r.users[userOf(k)]
	if devices == nil {
		devices = make(map[subjects.Key]*Record)
		r.users[strings.Clone(userOf(k))] = devices
	}
	if devices[k] == nil {
		r.count++
	}
	devices[subjects.Key(strings.Clone(string(k)))] = rec
}

func (r *Roster) remove(k subjects.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	devices := r.users[userOf(k)]
	if devices[k] == nil {
		return
	}
	r.count--
	if delete(devices, k); len(devices) == 0 {
		delete(r.users, userOf(k))
	}
}

// Get returns a device's record, or nil if it never registered.
func (r *Roster) Get(k subjects.Key) *Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.users[userOf(k)][k]
}

// Len is how many devices are registered.
func (r *Roster) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// Devices returns the keys of all devices of k's user, sorted.
func (r *Roster) Devices(k subjects.Key) []subjects.Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	devices := r.users[userOf(k)]
	keys := make([]subjects.Key, 0, len(devices))
	for key := range devices {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Register records what a device is, if that is new. The record is known here
// at once and stored soon: a failure is tried again until it is stored or
// something newer is known of the device.
func (r *Roster) Register(k subjects.Key, rec Record) {
	var compact bytes.Buffer
	if json.Compact(&compact, rec.Capabilities) == nil {
		rec.Capabilities = compact.Bytes()
	}
	if old := r.Get(k); old != nil && old.same(&rec) {
		return
	}
	rec.Registered = time.Now().UTC()
	data, err := json.Marshal(&rec)
	if err != nil {
		r.opts.Logger.Error("device record not stored", "device", string(k), "err", err)
		return
	}
	r.set(k, &rec)
	r.store(k, &rec, data)
}

// putAgain is how long after a failure a record is stored again.
const putAgain = time.Second

func (r *Roster) store(k subjects.Key, rec *Record, data []byte) {
	r.opts.Put(subjects.DeviceSubject(k), data, func(err error) {
		if err == nil || r.stopped.Load() || r.Get(k) != rec {
			return
		}
		r.opts.Logger.Warn("device record not stored, trying again", "device", string(k), "err", err)
		time.AfterFunc(putAgain, func() {
			if !r.stopped.Load() && r.Get(k) == rec {
				r.store(k, rec, data)
			}
		})
	})
}
