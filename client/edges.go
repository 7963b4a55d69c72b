package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"

	"github.com/rccs-io/rccs/wire"
)

// maxRedirects is how often one try to connect is sent on to another edge.
const maxRedirects = 3

// edges knows where to connect: at home, or where an edge has sent the client.
type edges struct {
	home string // static: what Dial was given

	mu   sync.Mutex
	away string // "" for home
}

// current is the URL of the next try.
func (e *edges) current() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != "" {
		return e.away
	}
	return e.home
}

// failed forgets an edge at which the client cannot register: home knows who serves
// now.
func (e *edges) failed(url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away == url {
		e.away = ""
	}
}

// follow goes where an edge says that the user is served; false when it does
// not say, or says what must not be followed.
func (e *edges) follow(err error) bool {
	told, ok := errors.AsType[*wire.Error](err)
	if !ok || told.Code != wire.WrongEdge {
		return false
	}
	var usable []string
	for _, text := range told.URLs {
		if to, err := endpoint(text); err == nil && (secure(to) || !secure(e.home)) {
			usable = append(usable, to)
		}
	}
	if len(usable) == 0 {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.away = usable[rand.N(len(usable))] //nolint:gosec // any of them will do
	return true
}

// secure reports whether a URL is of TLS. A client that began with TLS is not
// sent elsewhere without.
func secure(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "wss"
}

// connect connects to the edge that serves the user.
func (c *Client) connect(ctx context.Context) (*link, error) {
	for n := 0; ; n++ {
		at := c.edges.current()
		l, err := connect(ctx, at, c.opts)
		switch {
		case err == nil:
			l.session.URL = at
			return l, nil
		case n < maxRedirects && c.edges.follow(err):
			c.opts.Logger.Info("another edge serves this user", "url", shown(c.edges.current()))
		default:
			c.edges.failed(at) // it is gone, is no edge any more, or cannot serve now
			if home := c.edges.home; at != home {
				err = fmt.Errorf("%s sent this device to %s: %w", shown(home), shown(at), err)
			}
			return nil, err
		}
	}
}
