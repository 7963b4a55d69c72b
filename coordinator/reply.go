package coordinator

import (
	"strings"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// mayReply reports whether an answer to the request's reply subject is harmless:
// it does nothing that the requester could not do itself. See [Coordinator].
func (r *request) mayReply() bool {
	switch {
	case r.Reply == "":
		return true
	case strings.ContainsAny(r.Reply, "*>"):
		return false
	case r.key != "":
		return strings.HasPrefix(r.Reply, subjects.ReplyPrefix(r.key)+".")
	}
	return layout.IsClientReply(r.Reply)
}
