package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// Enrollment is what a device asks that makes its own key: a credential for
// the first time, or the next one. It travels inside a [SignedRequest].
type Enrollment struct {
	// Code is a one-time code, Token a third party's JWT: the claim of who the
	// user is. One of them is needed to enrol, none to renew.
	Code  string `json:"code,omitempty"`
	Token string `json:"token,omitempty"`
	// User is needed to renew; to enrol, the claim says it.
	User   subjects.UserID   `json:"user,omitempty"`
	Device subjects.DeviceID `json:"device,omitempty"`
	// Tenant is the installation's tenant that the user is of; empty: its
	// default one.
	Tenant string `json:"tenant,omitempty"`
	// PublicKey is the device's user nkey.
	PublicKey string `json:"publicKey"`
	// Time is the device's clock when it signed. It rises from one request of
	// a key to the next, which makes each good once.
	Time time.Time `json:"time"`
}

// Enrolled is the answer: the device's credential, but for the seed, which
// only the device has.
type Enrolled struct {
	JWT     string            `json:"jwt"`
	User    subjects.UserID   `json:"user"`
	Device  subjects.DeviceID `json:"device"`
	Expires time.Time         `json:"expiresAt"`
	// RenewUntil is when the key ends, unless it is renewed before.
	RenewUntil time.Time `json:"renewUntil"`
}

// Purpose is what a request was signed for, so that one is never taken for
// another.
type Purpose string

// The purposes.
const (
	PurposeEnroll Purpose = "rccs enroll v1"
	PurposeRenew  Purpose = "rccs renew v1"
)

// SignedRequest is the body of POST /v1/enroll and /v1/renew:
//
//	{"request": base64url(JSON of Enrollment), "sig": base64url(signature)}
//
// What is signed is [SignedRequest.Message]: the very text that was sent, so
// nothing depends on how JSON is written.
type SignedRequest struct {
	Request string `json:"request"`
	Sig     string `json:"sig"`
}

// TenantTag is before the name of a tenant in the tags of a credential that was
// enrolled, if that is not the default one: a renewal names it.
const TenantTag = "rccs-tenant:"

// Bounds of an enrolment.
const (
	// MaxEnrollment bounds the body of a request.
	MaxEnrollment = 32 << 10
	maxCode       = 64
	maxThirdToken = 16 << 10
	maxPublicKey  = 128
)

// Encode makes the request to be signed; [SignedRequest.Sig] is empty.
func (e *Enrollment) Encode() (SignedRequest, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return SignedRequest{}, fmt.Errorf("wire: enrolment: %w", err)
	}
	return SignedRequest{Request: base64.RawURLEncoding.EncodeToString(text)}, nil
}

// Message is what is signed: the purpose, a line feed, the request.
func (s SignedRequest) Message(p Purpose) []byte { return []byte(string(p) + "\n" + s.Request) }

// DecodeEnrollment reads the body of a request. Nobody has signed it until the
// signature was checked. The error is an [*Error].
func DecodeEnrollment(body []byte) (Enrollment, SignedRequest, error) {
	var s SignedRequest
	if len(body) > MaxEnrollment {
		return Enrollment{}, s, Errorf(MessageTooLarge, "the request has %d bytes, at most %d are taken", len(body), MaxEnrollment)
	}
	if err := json.Unmarshal(body, &s); err != nil || s.Request == "" || s.Sig == "" {
		return Enrollment{}, s, NewError(BadMessage, `want {"request": base64url of JSON, "sig": base64url of the signature}`)
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s.Request, "="))
	if err != nil {
		return Enrollment{}, s, NewError(BadMessage, "request is not base64url")
	}
	var e Enrollment
	if err := json.Unmarshal(text, &e); err != nil {
		return Enrollment{}, s, NewError(BadMessage, "request is not the JSON object that is wanted: "+err.Error())
	}
	if err := e.check(); err != nil {
		return Enrollment{}, s, err
	}
	return e, s, nil
}

func (e *Enrollment) check() *Error {
	switch {
	case e.PublicKey == "" || len(e.PublicKey) > maxPublicKey:
		return NewError(BadMessage, "publicKey is the public half of a user nkey that the device made")
	case e.Time.IsZero():
		return NewError(BadMessage, "time is when the request was signed, as RFC 3339")
	case len(e.Code) > maxCode:
		return NewError(BadMessage, "code is longer than any code")
	case len(e.Token) > maxThirdToken:
		return Errorf(BadMessage, "token is longer than %d bytes", maxThirdToken)
	}
	return nil
}
