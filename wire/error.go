package wire

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Error is what a peer is told went wrong: the payload of an error message.
// It is chosen for the peer; what is logged is another matter.
type Error struct {
	Code    Code
	Message string // for people; empty means the code's own
	// OriginalID is the id of the message it is about, "" when there is none
	// or it could not be read.
	OriginalID string
	// RetryAfter is how long to wait before trying again; 0 says nothing. It
	// travels in whole milliseconds.
	RetryAfter time.Duration
	// URLs are the edges to connect to instead, of [WrongEdge].
	URLs []string
}

// NewError makes an error; an empty message means the code's own.
func NewError(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// Errorf makes an error with a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Text is the message, or the code's own when there is none.
func (e *Error) Text() string {
	if e.Message == "" {
		return e.Code.Message()
	}
	return e.Message
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Text() }

// Unwrap is the code, so that errors.Is(err, wire.QueueFull) works.
func (e *Error) Unwrap() error { return e.Code }

// For returns a copy that is about the message with this id.
func (e *Error) For(id string) *Error {
	about := *e
	about.OriginalID = id
	return &about
}

// AsError is the boundary between inside and outside: it turns any error into
// what the peer may hear. An [*Error] in the chain stays itself, a [Code] is
// given its text, a deadline becomes TIMEOUT, and anything else becomes
// INTERNAL without a word of the inner text. AsError(nil) is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if told, ok := errors.AsType[*Error](err); ok {
		return told
	}
	var code Code
	switch {
	case errors.As(err, &code):
		return &Error{Code: code}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: Timeout}
	}
	return &Error{Code: Internal}
}
