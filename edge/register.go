package edge

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// attachTimeout bounds how long a registration may wait for the store.
const attachTimeout = 15 * time.Second

// challenge queues the nonce that a new connection has to sign.
func (c *conn) challenge() error {
	var raw [24]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return err
	}
	c.nonce = base64.RawURLEncoding.EncodeToString(raw[:])
	body, err := json.Marshal(&wire.Challenge{Challenge: c.nonce, Nonce: c.nonce, ServerTime: wire.FormatTime(time.Now())})
	if err != nil {
		return err
	}
	c.answer(wire.TypeRegister, body)
	return nil
}

// register handles the first envelope of a connection. Any error ends the
// connection.
func (c *conn) register(e *wire.Envelope) {
	if e.Type != wire.TypeRegister {
		c.refuse(e, wire.CloseAuth, wire.NewError(wire.AuthRequired, "the first frame must be device_register"))
		return
	}
	reg, err := wire.DecodeRegister(e.Payload)
	if err != nil {
		c.refuse(e, wire.CloseAuth, wire.AsError(err))
		return
	}
	who, code, werr := c.identify(e, reg)
	if werr != nil {
		c.refuse(e, code, werr)
		return
	}
	tenant, ok := c.s.opts.Tenant(who.Account)
	if !ok {
		err := auth.ErrNotTrusted
		if c.s.opts.Verifier.Expects(who.Account) {
			err = auth.ErrNotServedYet
		}
		code, werr := authError(err)
		c.refuse(e, code, werr)
		return
	}
	c.authenticated = true
	c.sock.SetLimit(c.s.opts.MaxMessageBytes)
	c.s.countAuthenticated()
	if wait := c.s.limiter.registrations.Take(tenantDevice{who.Account, who.Address.Key()}, 1, time.Now()); wait > 0 {
		c.s.metrics.limited.WithLabelValues(limitRegistrations).Inc()
		c.refuse(e, wire.CloseRateLimited, send.TooFast("the device connects too often", wait))
		return
	}
	own := tenant.of(who.Address.Key())
	if own == nil || !own.enter() {
		if own = c.elsewhere(e, who, tenant); own == nil {
			return
		}
	}
	c.attach(e, reg, who, own)
}

// refuse answers an envelope with an error and ends the connection.
func (c *conn) refuse(e *wire.Envelope, code wire.CloseCode, err *wire.Error) {
	l := c.log()
	if c.key == "" && c.shown != nil && c.shown.Device != "" {
		l = l.With("user", string(c.shown.User), "device", string(c.shown.Device))
	}
	l.Info("registration refused", "code", string(err.Code), "err", err.Message)
	c.finish(code, err.For(e.ID))
}

// identify checks the credential, and what the device says of itself against it.
func (c *conn) identify(e *wire.Envelope, reg *wire.Register) (auth.Identity, wire.CloseCode, *wire.Error) {
	token := reg.AuthToken
	if token == "" {
		token = c.bearer
	}
	switch {
	case token == "" && len(e.Payload) == 0: // a device that gave a token before may leave it out
		return auth.Identity{}, wire.CloseAuth, wire.NewError(wire.BadMessage, "payload of device_register must be an object")
	case token == "":
		return auth.Identity{}, wire.CloseAuth, wire.NewError(wire.AuthRequired, "authToken is missing: send the device's JWT in it, or in an Authorization header")
	}
	who, err := c.s.verify(token)
	shown := who.Address
	if err != nil {
		shown, _ = auth.RefusedDevice(err)
	}
	c.shown = &shown
	if err == nil && !who.Bearer {
		if reg.Sig == "" {
			return auth.Identity{}, wire.CloseAuth, wire.NewError(wire.AuthRequired, "sig is missing: sign the nonce with the credential's key, or use a bearer token")
		}
		err = who.VerifyNonce([]byte(c.nonce), reg.Sig)
	}
	if err != nil {
		code, werr := authError(err)
		return auth.Identity{}, code, werr
	}
	user, device := string(who.Address.User), string(who.Address.Device)
	for _, claim := range []struct{ field, said, is string }{
		{"payload.id", string(reg.DeviceID), device},
		{"payload.userId", string(reg.UserID), user},
		{"fromDeviceId", string(e.FromDeviceID), device},
		{"userId", string(e.UserID), user},
	} {
		if claim.said != "" && claim.said != claim.is {
			return auth.Identity{}, wire.CloseAuth, wire.NewError(wire.IdentityMismatch, claim.field+" is not what the credential says")
		}
	}
	return who, 0, nil
}

// verify checks a token. It waits until few enough others are being checked.
func (s *Server) verify(token string) (auth.Identity, error) {
	s.working <- struct{}{}
	defer func() { <-s.working }()
	return s.opts.Verifier.Verify(token, time.Now())
}

// authError returns what a device is told of a credential that was not accepted.
func authError(err error) (wire.CloseCode, *wire.Error) {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return wire.CloseExpired, wire.NewError(wire.TokenExpired, "the credential has ended: get a new one")
	case errors.Is(err, auth.ErrNotYet):
		return wire.CloseAuth, wire.NewError(wire.AuthError, "the credential is not valid yet: check the clock of the machine that issued it")
	case errors.Is(err, auth.ErrLimited):
		return wire.CloseAuth, wire.NewError(wire.AuthError, "the credential has limits that do not allow its use at an edge")
	case errors.Is(err, auth.ErrRevoked):
		return wire.CloseRevoked, wire.NewError(wire.DeviceRevoked, "the credential was revoked")
	case errors.Is(err, auth.ErrSignature):
		return wire.CloseAuth, wire.NewError(wire.AuthError, "the signature is not one of the nonce by the credential's key")
	case errors.Is(err, auth.ErrNotDevice):
		return wire.CloseAuth, wire.NewError(wire.AuthError, "the credential is not a device's")
	case errors.Is(err, auth.ErrNotServedYet):
		return wire.CloseOverloaded, wire.NewError(wire.Unavailable, "the credential's tenant is not served here yet, try again")
	case errors.Is(err, auth.ErrNotTrusted):
		return wire.CloseAuth, wire.NewError(wire.AuthError, "the credential was not issued by an account that is served here")
	}
	return wire.CloseAuth, wire.NewError(wire.AuthError, "the credential is not a valid NATS user JWT")
}

// attach makes this the device's connection and answers the registration. The connection
// has entered the tenant, and leaves it when it is closed.
func (c *conn) attach(e *wire.Envelope, reg *wire.Register, who auth.Identity, tenant *Tenant) {
	c.adopt(reg, who, tenant)
	limit, end := context.WithTimeout(c.s.ctx, attachTimeout)
	defer end()
	ctx, cancel := context.WithCancelCause(limit)
	defer cancel(nil)
	defer time.AfterFunc(peerEvery, func() { c.watchPeer(ctx, cancel) }).Stop()
	mailbox, err := c.open(ctx, reg, who)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errPeerGone):
		c.log().Info("registration given up by the device", "after", c.age().Round(time.Millisecond))
		c.sock.Abort()
		return
	case errors.Is(err, inbox.ErrTakenOver), errors.Is(err, roster.ErrReplaced), errors.Is(err, errSuperseded):
		c.log().Info("registration replaced by a newer one of the device", "err", err)
		c.Evicted()
		return
	case errors.Is(err, errNoSlot):
		c.s.metrics.limited.WithLabelValues(limitDevices).Inc()
		full := wire.NewError(wire.RateLimited, "as many devices are connected here as the tenant may have")
		full.RetryAfter = slotAfter
		c.refuse(e, wire.CloseRateLimited, full)
		return
	case err != nil:
		c.log().Warn("device not attached", "err", err)
		c.refuse(e, wire.CloseOverloaded, wire.NewError(wire.Unavailable, "the message store does not answer, try again"))
		return
	}
	c.s.metrics.registered.Inc()
	c.log().Info("device registered", "session", string(c.sess.ID), "resumed", c.sess.Resumed, "pending", mailbox.Pending())
	body, err := c.registered(e, mailbox.Pending())
	if err != nil {
		c.log().Error("registration not answered", "err", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attachLocked(mailbox, body)
	c.sock.Wake()
	if c.s.opts.Verifier.Revoked(who, who.IssuedAt) { // it may have been revoked meanwhile
		go c.contained(c.recheck)
	}
}

// The read loop does not read while it attaches. Suppose that a slow store makes
// a device wait, and the device gives up and connects to another edge. When the
// store answers, this edge would take the device over from there. So every
// peerEvery the edge checks that the peer has not closed the connection.
const peerEvery = 100 * time.Millisecond

var errPeerGone = errors.New("edge: the device has closed the connection")

// watchPeer ends a registration whose device has gone.
func (c *conn) watchPeer(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(peerEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if c.sock.PeerGone() {
			cancel(errPeerGone)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// attachLocked queues the answer to the registration, then what was held for it.
// From here on messages are sent.
func (c *conn) attachLocked(mailbox *inbox.Mailbox, answer []byte) {
	c.advance(attached)
	c.out.alone = true
	c.answerLocked(wire.TypeAck, answer)
	c.mailbox = mailbox
	c.out.unhold()
}

// adopt records who the device is and how it wants its messages.
func (c *conn) adopt(reg *wire.Register, who auth.Identity, tenant *Tenant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenant, c.who, c.key = tenant, holder{who.Account, who.Address, who.UserKey}, who.Address.Key()
	c.rights = who.Topics
	c.batch = reg.Batch
	c.auto = reg.AckMode == wire.AckAuto || reg.AckMode == "" && c.sock.Subprotocol() != Subprotocol
	c.issued = instantOf(who.IssuedAt)
	c.expiresLocked(who.Expires)
	if reg.Heartbeat > 0 {
		c.heartbeat = min(max(reg.Heartbeat, minHeartbeat), maxHeartbeat)
	}
	c.maxFrame = c.s.opts.frameLimit(reg.MaxFrame)
	if c.window = c.s.opts.Window; reg.Window > 0 {
		c.window = min(reg.Window, c.s.opts.MaxWindow)
	}
}

// maxEarly bounds how long before the end of its credential a connection may be
// closed. The time is random, so that devices whose credentials end together do
// not come back together.
const maxEarly = 5 * time.Second

// expiresLocked sets when the connection has to end.
func (c *conn) expiresLocked(at time.Time) {
	c.expires, c.early = instantOf(at), 0
	if at.IsZero() {
		return
	}
	if spread := min(time.Until(at)/20, maxEarly); spread > 0 {
		c.early = mathrand.N(spread) //nolint:gosec // it spreads load, and nothing has to be unguessable
	}
}

// open takes the device's session, inbox and requests over to this connection.
// Only one registration of a device runs at a time, so that all three belong to
// the connection that came last.
func (c *conn) open(ctx context.Context, reg *wire.Register, who auth.Identity) (*inbox.Mailbox, error) {
	t := c.tenant
	unlock, err := t.registering.Lock(ctx, c.key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	release, err := t.acquireSlot(c.key, c.s.opts.Verifier.Limits(who.Account).Devices)
	if err != nil {
		return nil, err
	}
	defer release()
	c.offlineDelay = reg.OfflineDelay
	deviceType := who.Type
	if deviceType == "" {
		deviceType = reg.Type
	}
	c.sess, err = t.Roster.Open(ctx, c.key, roster.SessionOptions{Record: &roster.Record{
		Type: deviceType, Platform: reg.Platform, Version: reg.Version, Capabilities: reg.Capabilities,
	}, OfflineDelay: reg.OfflineDelay})
	if err != nil {
		return nil, err
	}
	unsure := c.sess.From != "" && !t.askRelease(ctx, c.sess.From, c.key, c.sess.Epoch)
	mailbox, err := t.Inbox.Attach(ctx, c.key, c, inbox.MailboxOptions{
		Window: c.window, Epoch: c.sess.Epoch, Before: c.sess.Before, Unsure: unsure,
	})
	if err == nil {
		c.mu.Lock()
		c.advance(attaching)
		c.mu.Unlock()
		t.join(c)
		if err = c.listen(); err == nil && !c.sess.Current() {
			err = roster.ErrReplaced // before Lost could find this connection
		}
		if err != nil {
			mailbox.Detach()
		}
	}
	if err != nil {
		c.endSession(false, nil)
		return nil, err
	}
	return mailbox, nil
}

// Lost is the roster's callback: another edge has taken the device over.
func (t *Tenant) Lost(key subjects.Key, epoch uint64) {
	if c := t.find(key); c != nil && c.sess.Epoch == epoch {
		c.Evicted()
	}
}

// registered returns the answer to a registration, the first or a renewal.
func (c *conn) registered(e *wire.Envelope, pending int) ([]byte, error) {
	c.mu.Lock()
	expires, heartbeat := c.expires.time(), c.heartbeat
	c.mu.Unlock()
	answer := wire.Registered{
		Status: wire.StatusSuccess, SessionID: c.sess.ID, Resumed: c.sess.Resumed, DeviceID: c.who.Address.Device, UserID: c.who.Address.User,
		ServerTime: wire.FormatTime(time.Now()), Pending: int64(pending), HeartbeatIntervalMs: heartbeat.Milliseconds(),
		MaxMessageBytes: int64(c.s.opts.MaxMessageBytes), MaxFrameBytes: int64(c.maxFrame), Window: c.window, OriginalMessageID: e.ID,
		Epoch: c.tenant.Inbox.Epoch(),
	}
	if !expires.IsZero() {
		answer.ExpiresAt = wire.FormatTime(expires)
	}
	return json.Marshal(&answer)
}

// renew takes a new credential for the device of a live connection. A credential
// that is not accepted is answered with an error and changes nothing.
func (c *conn) renew(e *wire.Envelope) error {
	reg, err := wire.DecodeRegister(e.Payload)
	if err != nil {
		return err
	}
	who, _, werr := c.identify(e, reg)
	switch {
	case werr != nil:
		return werr
	case who.Account != c.who.Account || who.Address != c.who.Address:
		return wire.NewError(wire.IdentityMismatch, "the credential is another device's")
	}
	c.mu.Lock()
	c.issued = instantOf(who.IssuedAt)
	c.expiresLocked(who.Expires)
	c.mu.Unlock()
	body, err := c.registered(e, 0)
	if err != nil {
		c.log().Error("renewal not answered", "err", err)
		return nil
	}
	c.log().Info("credential renewed", "session", string(c.sess.ID), "expires", who.Expires)
	c.answer(wire.TypeAck, body)
	c.restrict(who.Topics)
	return nil
}

// Evicted implements [inbox.Receiver]: it ends the connection because a newer one
// of the device took over.
func (c *conn) Evicted() {
	c.finish(wire.CloseReplaced, wire.NewError(wire.SessionReplaced, "the device connected again"))
}
