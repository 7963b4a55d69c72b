package layout

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Headers that only RCCS sets.
const (
	HeaderCopies   = "Rccs-Copies"    // of the first copy of a fan-out: the device tokens of all, in order
	HeaderReplay   = "Rccs-Replay"    // "true": an operator delivers it again
	HeaderIssuedTo = "Rccs-Issued-To" // the credential of the service that delayed the message, see [IssuedTo]
	HeaderProof    = "Rccs-Proof"     // shows that RCCS wrote the message, and for whom
	// HeaderMaxFrame is the largest frame that the requester takes, in bytes.
	HeaderMaxFrame = "Rccs-Max-Frame"
)

// Headers of a message that waits for one of several devices to come online:
// what that device is. Without any of them it is one that can hold tasks when
// the message is of a task's type, and else any other device of the user.
const (
	HeaderWaitType       = "Rccs-Wait-Type"
	HeaderWaitCapability = "Rccs-Wait-Capability"
	HeaderWaitTask       = "Rccs-Wait-Task"
)

// HeaderRequester is set by NATS servers on what crosses from the services'
// account into the tenant's: of which account it is. JetStream does not store it.
const HeaderRequester = "Nats-Request-Info"

// Requester is the key of the service that NATS says has asked, of what came by
// an import with [Import.Share]; it is empty where the headers say nothing of the
// kind. NATS replaces what a service puts there itself. Users of the tenant's own
// account can write what they like, so this is for taking turns, and for nothing
// that needs proof.
func Requester(h map[string][]string) string {
	values := h[HeaderRequester]
	if len(values) != 1 {
		return ""
	}
	var who struct {
		User string `json:"user"`
	}
	if json.Unmarshal([]byte(values[0]), &who) != nil {
		return ""
	}
	return who.User
}

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
