package layout

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers that only RCCS sets.
const (
	HeaderCopies   = "Rccs-Copies"    // of the first copy of a fan-out: the device tokens of all, in order
	HeaderReplay   = "Rccs-Replay"    // "true": an operator delivers it again
	HeaderRestored = "Rccs-Restored"  // "true": it waited when a backup was made that was restored since, so it may have been delivered before
	HeaderIssuedTo = "Rccs-Issued-To" // the credential of the service that delayed the message, see [IssuedTo]
	// HeaderCancelled is of what stands in the place of a delayed message that was
	// cancelled: the sequence of that message, and a tag.
	HeaderCancelled = "Rccs-Cancelled"
	HeaderProof     = "Rccs-Proof" // shows that RCCS wrote the message, and for whom
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

// Hidden stands for all services whose requests keep what NATS says of them from
// being read, and HidesRequester is what they are told.
const (
	Hidden         = "hidden"
	HidesRequester = "the headers hide who asks: they are more than 32, or have an empty line, an unusual space, or " + HeaderRequester + " among them"
)

// Requester returns the key of the service that NATS says has asked, of a message
// that came by an import with [Import.Share]. It is empty if the message came by no
// import: users of the tenant's own account can write any headers. A message
// without a reply subject may be one of theirs, so its requester is for taking
// turns, and for nothing that needs proof.
func Requester(m *nats.Msg) string {
	if m.Reply != "" && !IsImportReply(m.Reply) {
		return ""
	}
	who := requestInfo(m.Header).User
	_, named := m.Header[HeaderRequester]
	if EndEarly(m) || who == "" && (named || m.Reply != "") {
		return Hidden
	}
	return who
}

// ServiceName returns "service:NAME" of the service that has asked, as its
// credential names it. It is empty unless NATS vouches for it: only a reply
// subject that NATS has made proves that NATS wrote the header.
func ServiceName(m *nats.Msg) string {
	if !IsImportReply(m.Reply) || EndEarly(m) {
		return ""
	}
	_, rest, _ := strings.Cut(requestInfo(m.Header).JWT, ".")
	payload, _, _ := strings.Cut(rest, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var who struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(claims, &who) != nil || !strings.HasPrefix(who.Name, "service:") {
		return ""
	}
	return who.Name
}

// info holds the fields of [HeaderRequester] that RCCS reads.
type info struct {
	User string `json:"user"`
	JWT  string `json:"jwt"`
}

func requestInfo(h map[string][]string) (who info) {
	values := h[HeaderRequester]
	if len(values) != 1 || json.Unmarshal([]byte(values[0]), &who) != nil {
		return info{}
	}
	return who
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
