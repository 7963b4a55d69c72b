package wire

import (
	"strconv"
	"strings"
	"time"
)

// CloseCode is the status of a WebSocket close frame.
type CloseCode int

// The close codes that RCCS sends.
const (
	CloseNormal      CloseCode = 1000 // device_unregister
	CloseGoingAway   CloseCode = 1001 // draining
	CloseBadUTF8     CloseCode = 1007
	ClosePolicy      CloseCode = 1008
	CloseTooLarge    CloseCode = 1009
	CloseInternal    CloseCode = 1011 // a fault of the edge
	CloseOverloaded  CloseCode = 1013
	CloseAuth        CloseCode = 4001
	CloseReplaced    CloseCode = 4002
	CloseRevoked     CloseCode = 4003
	CloseExpired     CloseCode = 4004
	CloseRateLimited CloseCode = 4029
	CloseWrongEdge   CloseCode = 4301 // other edges serve the user, see Error.URLs
)

// CloseCodes returns every close code that RCCS sends, in ascending order.
func CloseCodes() []CloseCode {
	return []CloseCode{
		CloseNormal, CloseGoingAway, CloseBadUTF8, ClosePolicy, CloseTooLarge, CloseInternal, CloseOverloaded,
		CloseAuth, CloseReplaced, CloseRevoked, CloseExpired, CloseRateLimited, CloseWrongEdge,
	}
}

// Reconnect says whether a client should come back after a close, and when.
type Reconnect uint8

// The answers.
const (
	ReconnectNo         Reconnect = iota
	ReconnectNow                  // at once; it may land elsewhere
	ReconnectLater                // after a while
	ReconnectCredential           // with a new credential
)

// Reconnect reports whether a client should come back. A code that RCCS does not
// send (1006 for a lost link, 1012 from a proxy) means after a while.
func (c CloseCode) Reconnect() Reconnect {
	switch c {
	case CloseNormal, CloseBadUTF8, ClosePolicy, CloseAuth, CloseReplaced, CloseRevoked:
		return ReconnectNo
	case CloseGoingAway, CloseTooLarge, CloseWrongEdge:
		return ReconnectNow
	case CloseExpired:
		return ReconnectCredential
	case CloseInternal, CloseOverloaded, CloseRateLimited:
		return ReconnectLater
	}
	return ReconnectLater
}

// Reason is the text of the close frame, well within the 123 bytes that fit;
// empty for a code that RCCS does not send.
func (c CloseCode) Reason() string {
	switch c {
	case CloseNormal:
		return "bye"
	case CloseGoingAway:
		return "draining: connect again"
	case CloseBadUTF8:
		return "text frames are UTF-8"
	case ClosePolicy:
		return "protocol violation"
	case CloseTooLarge:
		return "message over the limit"
	case CloseInternal:
		return "internal fault: connect again"
	case CloseOverloaded:
		return "overloaded: come back after a while"
	case CloseAuth:
		return "not authenticated"
	case CloseReplaced:
		return "replaced by another connection of this device"
	case CloseRevoked:
		return "credential revoked"
	case CloseExpired:
		return "credential expired: come back with a new one"
	case CloseRateLimited:
		return "rate limit: come back after a while"
	case CloseWrongEdge:
		return "other edges serve this user: connect there"
	}
	return ""
}

// hintPrefix begins a hint in the reason of a close.
const hintPrefix = "retryAfterMs="

// ReasonAfter is Reason with a hint, which [RetryAfter] reads: how long the
// device should wait before it comes back; 0 for none.
func (c CloseCode) ReasonAfter(wait time.Duration) string {
	if wait < time.Millisecond {
		return c.Reason()
	}
	return c.Reason() + "; " + hintPrefix + strconv.FormatInt(wait.Milliseconds(), 10)
}

// RetryAfter is the hint in the reason of a close; 0 when there is none.
func RetryAfter(reason string) time.Duration {
	_, hint, _ := strings.Cut(reason, hintPrefix)
	ms, err := strconv.ParseUint(hint, 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// String is the number.
func (c CloseCode) String() string { return strconv.Itoa(int(c)) }
