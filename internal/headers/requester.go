package headers

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
)

// Hidden stands for all services whose requests keep what NATS says of them from
// being read, and HidesRequester is what they are told.
const (
	Hidden         = "hidden"
	HidesRequester = "the headers hide who asks: they are more than 32, or have an empty line, an unusual space, or " + layout.HeaderRequester + " among them"
)

// Requester returns the key of the service that NATS says has asked, of a message
// that came by an import with [layout.Import.Share]. It is empty if the message came by no
// import: users of the tenant's own account can write any headers. A message
// without a reply subject may be one of theirs, so its requester is for taking
// turns, and for nothing that needs proof.
func Requester(m *nats.Msg) string {
	if m.Reply != "" && !layout.IsImportReply(m.Reply) {
		return ""
	}
	who := ""
	if values := m.Header[layout.HeaderRequester]; len(values) == 1 {
		who = lately.of(values[0])
	}
	_, named := m.Header[layout.HeaderRequester]
	if EndEarly(m) || who == "" && (named || m.Reply != "") {
		return Hidden
	}
	return who
}

// ServiceName returns "service:NAME" of the service that has asked, as its
// credential names it. It is empty unless NATS vouches for it: only a reply
// subject that NATS has made proves that NATS wrote the header.
func ServiceName(m *nats.Msg) string {
	if !layout.IsImportReply(m.Reply) || EndEarly(m) {
		return ""
	}
	values := m.Header[layout.HeaderRequester]
	if len(values) != 1 {
		return ""
	}
	_, rest, _ := strings.Cut(parse(values[0]).JWT, ".")
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

// info holds the fields of [layout.HeaderRequester] that RCCS reads.
type info struct {
	User string `json:"user"`
	JWT  string `json:"jwt"`
}

func parse(value string) (who info) {
	if json.Unmarshal([]byte(value), &who) != nil {
		return info{}
	}
	return who
}

// lately is what [Requester] has read lately, for all callers of the process: what a
// value holds is the same to each.
var lately users
