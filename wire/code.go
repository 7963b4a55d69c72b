package wire

// Code is a stable name for what went wrong, as the peer sees it. The set is
// closed: see [Codes].
//
// A Code is an error, so that errors.Is(err, wire.QueueFull) works on whatever
// wraps an [*Error].
type Code string

// The codes.
const (
	BadFrame         Code = "BAD_FRAME"
	BadMessage       Code = "BAD_MESSAGE"
	AuthRequired     Code = "AUTH_REQUIRED"
	AuthError        Code = "AUTH_ERROR"
	TokenExpired     Code = "TOKEN_EXPIRED"
	IdentityMismatch Code = "IDENTITY_MISMATCH"
	PermissionDenied Code = "PERMISSION_DENIED"
	DeviceNotFound   Code = "DEVICE_NOT_FOUND"
	DeviceOffline    Code = "DEVICE_OFFLINE"
	SessionExpired   Code = "SESSION_EXPIRED"
	SessionReplaced  Code = "SESSION_REPLACED"
	DeviceRevoked    Code = "DEVICE_REVOKED"
	RateLimited      Code = "RATE_LIMITED"
	MessageTooLarge  Code = "MESSAGE_TOO_LARGE"
	QueueFull        Code = "QUEUE_FULL"
	Timeout          Code = "TIMEOUT"
	Unavailable      Code = "UNAVAILABLE"
	WrongEdge        Code = "WRONG_EDGE"
	Internal         Code = "INTERNAL"
)

// Conflict is an answer of HTTP alone, to one who enrols a device whose name is
// taken. It is none of [Codes], which are those of connections.
const Conflict Code = "CONFLICT"

// Retry says whether what failed may be tried again, and when.
type Retry uint8

// The answers.
const (
	RetryNever      Retry = iota // the same thing fails the same way
	RetryLater                   // after a while, or after Error.RetryAfter
	RetryCredential              // with a new credential
)

// codeInfo is what is known of a code.
type codeInfo struct {
	code    Code
	message string
	retry   Retry
	closes  CloseCode // 0: it never ends a connection
}

// codeTable is a function and not a variable so that nobody can change it.
func codeTable() [19]codeInfo {
	return [...]codeInfo{
		{BadFrame, "a frame is one JSON object or an array of objects, as text", RetryNever, ClosePolicy},
		{BadMessage, "the message is not as the protocol wants it", RetryNever, 0},
		{AuthRequired, "register first: send device_register with a credential", RetryCredential, CloseAuth},
		{AuthError, "the credential was not accepted", RetryCredential, CloseAuth},
		{TokenExpired, "the credential has expired: get a new one", RetryCredential, CloseExpired},
		{IdentityMismatch, "the identity given is not the credential's", RetryNever, CloseAuth},
		{PermissionDenied, "the credential does not allow this", RetryNever, 0},
		{DeviceNotFound, "no device can take this message", RetryNever, 0},
		{DeviceOffline, "the device is not connected", RetryLater, 0},
		{SessionExpired, "the session has ended: connect again", RetryLater, CloseGoingAway},
		{SessionReplaced, "another connection of this device took the session over", RetryNever, CloseReplaced},
		{DeviceRevoked, "the device's credential was revoked", RetryNever, CloseRevoked},
		{RateLimited, "too many messages: slow down", RetryLater, CloseRateLimited},
		{MessageTooLarge, "the message is over the limit: see maxMessageBytes", RetryNever, CloseTooLarge},
		{QueueFull, "the inbox is full of unacknowledged messages", RetryLater, 0},
		{Timeout, "no answer in time", RetryLater, 0},
		{Unavailable, "the service cannot be reached right now", RetryLater, CloseOverloaded},
		{WrongEdge, "other edges serve this user: connect to one of urls", RetryLater, CloseWrongEdge},
		{Internal, "something went wrong inside", RetryLater, CloseInternal},
	}
}

// Codes returns every code, in the order of the protocol page.
func Codes() []Code {
	table := codeTable()
	codes := make([]Code, 0, len(table))
	for i := range table {
		codes = append(codes, table[i].code)
	}
	return codes
}

func (c Code) info() codeInfo {
	table := codeTable()
	for i := range table {
		if table[i].code == c {
			return table[i]
		}
	}
	if c == Conflict {
		return codeInfo{code: c, message: "there is one already", retry: RetryNever}
	}
	return codeInfo{code: c, message: "unknown error", retry: RetryLater}
}

// Error is the code's name.
func (c Code) Error() string { return string(c) }

// Known reports whether the code belongs to the set. A peer of a later version
// may send others: treat them as worth trying again later.
func (c Code) Known() bool {
	switch c {
	case BadFrame, BadMessage, AuthRequired, AuthError, TokenExpired, IdentityMismatch,
		PermissionDenied, DeviceNotFound, DeviceOffline, SessionExpired, SessionReplaced,
		DeviceRevoked, RateLimited, MessageTooLarge, QueueFull, Timeout, Unavailable, WrongEdge, Internal:
		return true
	case Conflict: // of HTTP alone, no frame has it
	}
	return false
}

// Message is the text for people where nothing better is known.
func (c Code) Message() string { return c.info().message }

// Retry reports whether what failed with this code may be tried again.
func (c Code) Retry() Retry { return c.info().retry }

// Close is the close code of a connection that this error ends; ok is false
// for an error that never ends one. Whether it ends one here is the caller's
// to know: a bad frame does so only as the first frame or the third in a row.
func (c Code) Close() (code CloseCode, ok bool) {
	code = c.info().closes
	return code, code != 0
}
