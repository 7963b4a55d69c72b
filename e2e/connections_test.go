package e2e_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A device has at most 8 connections of plain NATS; the newest are ended, and
// those of others stay.
func TestADeviceHasEightConnectionsOfPlainNATS(t *testing.T) {
	t.Parallel()
	const limit = 8
	s := start(t)
	try := func(name string) (*nats.Conn, error) {
		creds := must(t, "creds", "device", name, "--data", s.data)
		for began := time.Now(); ; {
			nc, err := nats.Connect(s.NATS, credsOption(t, creds), nats.NoReconnect(), nats.Timeout(patience), nats.CustomInboxPrefix("_INBOX."+strings.ReplaceAll(name, "/", ".")), nats.ErrorHandler(nobody))
			switch {
			case err == nil:
				t.Cleanup(nc.Close)
			case strings.Contains(strings.ToLower(err.Error()), "authentication timeout") && time.Since(began) < patience:
				continue // the server waits no longer than two seconds
			}
			return nc, err
		}
	}
	dial := func(name string) *nats.Conn {
		nc, err := try(name)
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	neighbour := dial("bob/phone")
	var all []*nats.Conn
	for range limit {
		all = append(all, dial("alice/phone"))
	}
	// oneMore is one too many. When it has ended, the fate of those before it is decided.
	oneMore := func() {
		more, err := try("alice/phone")
		if errors.Is(err, io.EOF) {
			return // it was ended before it had heard that it was connected
		}
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if more.IsConnected() {
				return errors.New("a ninth connection stays")
			}
			return nil
		})
	}
	for range 3 {
		oneMore()
	}
	all[0].Close()
	// There is a place when the server has noticed. Of two more that come, one stays
	// then, and when the other has ended that is decided. The second one may stay, if
	// the server notices between them.
	var again *nats.Conn
	eventually(t, func() error {
		first := again
		more, err := try("alice/phone")
		if err != nil && !errors.Is(err, io.EOF) { // that one was ended before it had heard that it was connected
			t.Fatal(err)
		}
		again = more
		if first == nil || !first.IsConnected() {
			return errors.New("there is no place for another one")
		}
		eventually(t, func() error {
			if first.IsConnected() && err == nil && more.IsConnected() {
				return errors.New("a ninth connection stays")
			}
			return nil
		})
		if err := first.FlushTimeout(patience); err != nil {
			return err
		}
		again = first
		return nil
	})
	for _, nc := range append(all[1:], neighbour, again) {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Errorf("one of those that were there, or of a neighbour, is ended: %v", err)
		}
	}
	if _, metrics := s.get(t, "/metrics"); strings.Contains(metrics, "rccs_nats_connections_ended_total 0") {
		t.Error("what was ended is not counted")
	}
}
