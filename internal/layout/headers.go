package layout

import (
	"strconv"
	"strings"
	"time"
)

// Headers that only RCCS sets.
const (
	HeaderCopies   = "Rccs-Copies"    // of the first copy of a fan-out: the device tokens of all, in order
	HeaderReplay   = "Rccs-Replay"    // "true": an operator delivers it again
	HeaderIssuedTo = "Rccs-Issued-To" // the credential of the service that delayed the message, see [IssuedTo]
	// HeaderCancelled is of what stands in the place of a delayed message that was
	// cancelled: the sequence of that message, and a tag.
	HeaderCancelled = "Rccs-Cancelled"
	// HeaderDisplaced is of the note that is kept of a delayed message until its
	// sender has been told that another one on its subject replaced it: the sequence
	// and the subject of that message, and a tag.
	HeaderDisplaced = "Rccs-Displaced"
	HeaderProof     = "Rccs-Proof" // shows that RCCS wrote the message, and for whom
	// HeaderMaxFrame is the largest frame that the requester takes, in bytes.
	HeaderMaxFrame = "Rccs-Max-Frame"
)

// Headers of a message that waits for one of several devices to come online:
// what that device is. Without any of them it is one that can hold tasks when
// the message is of a task's type, and else any other device of the user. It is
// not delivered before the last one's time, if there is one.
const (
	HeaderWaitType       = "Rccs-Wait-Type"
	HeaderWaitCapability = "Rccs-Wait-Capability"
	HeaderWaitTask       = "Rccs-Wait-Task"
	HeaderWaitDue        = "Rccs-Wait-Due"
)

// HeaderRequester is set by NATS servers on what crosses from the services'
// account into the tenant's: of which account it is. JetStream does not store it.
const HeaderRequester = "Nats-Request-Info"

// IssuedTo names a credential in [HeaderIssuedTo]: the key of its user, and when
// it was issued.
func IssuedTo(userKey string, issued time.Time) string {
	return userKey + " " + strconv.FormatInt(issued.Unix(), 10)
}

// ParseIssuedTo reads what [IssuedTo] writes.
func ParseIssuedTo(text string) (userKey string, issued time.Time, ok bool) {
	userKey, seconds, ok := strings.Cut(text, " ")
	at, err := strconv.ParseInt(seconds, 10, 64)
	return userKey, time.Unix(at, 0), ok && err == nil
}
