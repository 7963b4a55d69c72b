package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/wire"
)

// subprotocol is what the client offers.
const subprotocol = "rccs.v1"

// writeTimeout bounds one write to the socket.
const writeTimeout = 10 * time.Second

// link is one connection, registered.
type link struct {
	// Static after the handshake.
	ws      *websocket.Conn
	session Session
	nonce   string        // what the device signs
	skew    time.Duration // the edge's clock minus ours
	silence time.Duration // of the edge, after which the link is dead
	pongs   chan string   // to write; of one place
	gone    chan struct{} // closed when the reader has ended

	// Owned by the reader.
	rest []wire.Item // what came in the frame that ended the registration
	last *wire.Error // an error about the connection, if it was the last to come
}

// ErrSilent is how a connection ends on which the edge shows no sign of life.
var ErrSilent = errors.New("client: nothing heard from the edge")

// CloseError is how a connection ended, when the edge said so.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
	// Err is the error that the edge told before, nil for none.
	Err *wire.Error
}

// Error implements error.
func (e *CloseError) Error() string {
	text := "closed with " + e.Code.String()
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap is what the edge told, so that errors.Is(err, wire.AuthError) works.
func (e *CloseError) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return e.Err
}

// connect dials and registers. ctx bounds it.
func connect(ctx context.Context, url string, opts *Options) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.HandshakeTimeout)
	defer cancel()
	trust, err := opts.trust()
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, Subprotocols: []string{subprotocol},
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	}
	ws, response, err := dialer.DialContext(ctx, url, opts.Header)
	if err != nil {
		if response != nil {
			wantsTLS := wantsTLS(response)
			_ = response.Body.Close()
			if wantsTLS {
				return nil, fmt.Errorf("client: connect to %s: %w", shown(url), errWantsTLS)
			}
			if told := notNow(response); told != nil {
				err = told
			}
			return nil, fmt.Errorf("client: connect to %s: the answer was %s: %w", shown(url), response.Status, err)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // the socket has ctx's deadline, and may be the first to notice
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return nil, fmt.Errorf("client: connect to %s: %w", shown(url), err)
	}
	l := &link{ws: ws, pongs: make(chan string, 1), gone: make(chan struct{})}
	ws.SetReadLimit(64 << 10) // until registered
	stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
	err = l.register(ctx, opts)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = ws.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, ctx.Err())
		}
		return nil, fmt.Errorf("client: register: %w", err)
	}
	l.ready()
	return l, nil
}

var errWantsTLS = errors.New("what answers there has TLS: its URL is wss://, not ws://")

// wantsTLS reports whether an answer is the one that servers with TLS, among them
// Go's, nginx and Apache, give to a request without.
func wantsTLS(response *http.Response) bool {
	if response.StatusCode != http.StatusBadRequest {
		return false
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // what came of it is enough
	for _, says := range []string{"HTTP request to an HTTPS server", "sent to HTTPS port", "plain HTTP to an SSL-enabled"} {
		if bytes.Contains(body, []byte(says)) {
			return true
		}
	}
	return false
}

// notNow is what an edge, or what stands before it, says that takes no more
// connections for a while; nil when it says something else.
func notNow(response *http.Response) *wire.Error {
	var told *wire.Error
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		told = wire.NewError(wire.RateLimited, "the edge takes no more connections from here for a while")
	case http.StatusServiceUnavailable:
		told = wire.NewError(wire.Unavailable, "the edge takes no more connections for a while")
	default:
		return nil
	}
	if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16); err == nil {
		told.RetryAfter = time.Duration(seconds) * time.Second
	}
	return told
}

// register answers the edge's challenge and waits for its ack.
func (l *link) register(ctx context.Context, opts *Options) error {
	e, err := l.await(wire.TypeRegister)
	if err != nil {
		return err
	}
	challenge, err := wire.DecodeChallenge(e.Payload)
	if err != nil {
		return err
	}
	l.nonce = challenge.Nonce
	r, err := opts.register(ctx, challenge.Nonce)
	if err != nil {
		return err
	}
	request := wire.NewEnvelope(newID(), wire.TypeRegister, r.AppendPayload(nil))
	if err := l.ws.WriteMessage(websocket.TextMessage, request.Append(nil)); err != nil {
		return err
	}
	if e, err = l.await(wire.TypeAck); err != nil {
		return err
	}
	answer, err := wire.DecodeAnswer(e.Payload)
	if err != nil {
		return err
	}
	if answer.Status != wire.StatusSuccess {
		return fmt.Errorf("the edge answered %q, want %q", answer.Status, wire.StatusSuccess)
	}
	l.session = newSession(&answer.Registered)
	if !l.session.ServerTime.IsZero() {
		l.skew = time.Until(l.session.ServerTime)
	}
	return nil
}

// await reads until an envelope of the type comes.
func (l *link) await(typ string) (*wire.Envelope, error) {
	var bad error
	for {
		items, err := l.next(nil, func(_ []byte, why error) { bad = why })
		if err != nil {
			return nil, err
		}
		if bad != nil {
			return nil, bad
		}
		for i := range items {
			switch e := &items[i].Envelope; e.Type {
			case typ:
				l.rest = items[i+1:]
				return e, nil
			case wire.TypeError:
				if l.last, err = wire.DecodeError(e.Payload); err != nil {
					return nil, err
				}
			}
		}
	}
}

// next reads one frame into dst; its payloads are good for ever. What cannot be
// read of it goes to unreadable, and is not in the answer.
func (l *link) next(dst []wire.Item, unreadable func(text []byte, why error)) ([]wire.Item, error) {
	kind, frame, err := l.ws.ReadMessage()
	if err != nil {
		return nil, l.ending(err)
	}
	if kind != websocket.TextMessage {
		unreadable(frame, errBinary)
		return dst, nil
	}
	return readFrame(dst, frame, unreadable), nil
}

// errBinary is why a frame cannot be read that is not text.
var errBinary = wire.NewError(wire.BadFrame, "a binary frame")

// ending turns the end of reading into what the edge said.
func (l *link) ending(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
		return &CloseError{Code: wire.CloseCode(closed.Code), Reason: closed.Text, Err: l.last}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = ErrSilent
	}
	if l.last != nil {
		return fmt.Errorf("%w: %w", l.last, err)
	}
	return err
}

// ready arms what watches a registered connection.
func (l *link) ready() {
	// Pings come every heartbeat: one may be late, two are not.
	l.silence = 2 * l.session.Heartbeat
	if l.silence <= 0 {
		l.silence = 2 * time.Minute
	}
	if limit := int64(l.session.MaxFrameBytes); limit > 0 {
		l.ws.SetReadLimit(limit)
	} else { // an edge of an earlier version does not say what it adds to a message
		l.ws.SetReadLimit(max(4*int64(l.session.MaxMessageBytes), 4<<20))
	}
	l.ws.SetPingHandler(func(data string) error {
		l.touch()
		select {
		case <-l.pongs: // RFC 6455, 5.5.3: only the last needs an answer
		default:
		}
		l.pongs <- data
		return nil
	})
	l.ws.SetPongHandler(func(string) error { l.touch(); return nil })
	l.touch()
}

// touch is called whenever the edge shows life.
func (l *link) touch() { _ = l.ws.SetReadDeadline(time.Now().Add(l.silence)) }

// probeTimeout is how long a connection may be silent that is asked for a sign
// of life.
const probeTimeout = 3 * time.Second

// probe asks the edge for a sign of life. Without one the reader ends.
func (l *link) probe() error {
	if err := l.ws.SetReadDeadline(time.Now().Add(min(probeTimeout, l.silence))); err != nil {
		return err
	}
	return l.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
}

// send writes one text frame.
func (l *link) send(frame []byte) error {
	if err := l.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return l.ws.WriteMessage(websocket.TextMessage, frame)
}
