package tlsfiles

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// pollEvery is how often the files are looked at. They are a few kilobytes:
// reading them costs less than to trust times and sizes, which tools that
// renew certificates do not always change.
const pollEvery = time.Second

// soon is how long before its end a certificate is warned of.
const soon = 7 * 24 * time.Hour

// Options configure a [Store].
type Options struct {
	Files
	// Name tells the listener from others in the log.
	Name string
	// Logger; nil discards.
	Logger *slog.Logger
	// Poll is how often the files are looked at. Default 1 s.
	Poll time.Duration
}

// Store is the certificate of a listener, as of the last files that were good.
type Store struct {
	opts    Options
	log     *slog.Logger
	current atomic.Pointer[loaded]
	failed  atomic.Uint64
	quit    chan struct{}
	wg      sync.WaitGroup

	mu    sync.Mutex // makes reloads one at a time, and guards what follows
	doubt string     // an error that may be of files that are being replaced
	told  string     // an error that was logged
}

// loaded is what came of one state of the files.
type loaded struct {
	config *tls.Config
	sum    [sha256.Size]byte
	ends   time.Time
}

// Open reads the files for the first time, and fails when they are no good.
// [Store.Start] begins to look for changes.
func Open(opts Options) (*Store, error) {
	if opts.Cert == "" || opts.Key == "" {
		return nil, errors.New("a certificate and its key are needed together: name both files")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Poll <= 0 {
		opts.Poll = pollEvery
	}
	s := &Store{opts: opts, log: opts.Logger.With("listener", opts.Name), quit: make(chan struct{})}
	c, err := opts.read()
	if err != nil {
		return nil, err
	}
	if err := s.use(c); err != nil {
		return nil, err
	}
	return s, nil
}

// use puts into use what the files held.
func (s *Store) use(c content) error {
	pair, pool, err := s.opts.parse(c)
	if err != nil {
		return err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{*pair},
		MinVersion:   tls.VersionTLS12,     // 1.3 where the peer has it
		NextProtos:   []string{"http/1.1"}, // a WebSocket begins as HTTP/1.1
	}
	if pool != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, pool
		// A session that is resumed is not checked against the pool of now.
		config.SessionTicketsDisabled = true
	}
	s.current.Store(&loaded{config: config, sum: c.sum(), ends: pair.Leaf.NotAfter})
	if left := time.Until(pair.Leaf.NotAfter); left < soon {
		s.log.Warn("the TLS certificate ends soon or has ended: renew it in its file",
			"file", s.opts.Cert, "ends", pair.Leaf.NotAfter)
	}
	return nil
}

// Config is for the listener. Each handshake begins with the files as they
// were last good.
func (s *Store) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().config, nil
		},
	}
}

// Ends is when the certificate in use ends.
func (s *Store) Ends() time.Time { return s.current.Load().ends }

// Failures counts the states of the files that could not be used.
func (s *Store) Failures() uint64 { return s.failed.Load() }

// Start looks for changes until Stop.
func (s *Store) Start() { s.wg.Go(s.poll) }

// Stop ends that. What was given out by [Store.Config] goes on working.
func (s *Store) Stop(context.Context) error {
	close(s.quit)
	s.wg.Wait()
	return nil
}

func (s *Store) poll() {
	tick := time.NewTicker(s.opts.Poll)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
			_ = s.look(true) // it is logged
		}
	}
}

// Reload reads the files now. On an error, which is also logged, what was in
// use stays.
func (s *Store) Reload() error { return s.look(false) }

// look takes what the files hold, if it is new. patient: files that are no
// good may be half replaced, and are told only when the next look finds the
// same.
func (s *Store) look(patient bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.opts.read()
	if err == nil {
		sum := c.sum()
		if sum == s.current.Load().sum {
			s.doubt, s.told = "", ""
			return nil
		}
		err = s.use(c)
	}
	if err != nil {
		s.refuseLocked(err, patient)
		return err
	}
	s.doubt, s.told = "", ""
	s.log.Info("TLS certificate replaced", "file", s.opts.Cert, "ends", s.Ends())
	return nil
}

// refuseLocked tells once of files that are no good.
func (s *Store) refuseLocked(err error, patient bool) {
	text := err.Error()
	if patient && s.doubt != text || s.told == text {
		s.doubt = text
		return
	}
	s.doubt, s.told = text, text
	s.failed.Add(1)
	s.log.Error("the TLS files changed and cannot be used: the certificate of before stays in use; mend the files, they are read again by themselves",
		"err", err)
}
