package layout

import (
	"strings"

	"github.com/rccs-io/rccs/subjects"
)

const devicePrefix = "rccs.coordinator.device."

// ParseDeviceEndpoint is the inverse of [subjects.DeviceEndpoint].
func ParseDeviceEndpoint(subject string) (k subjects.Key, endpoint string, ok bool) {
	dot := strings.LastIndexByte(subject, '.')
	if dot < 0 {
		return "", "", false
	}
	k, ok = parseKey(devicePrefix, subject[:dot])
	return k, subject[dot+1:], ok
}

// AnyDeviceEndpoint is an endpoint that devices call for themselves, of all
// devices, for the coordinator.
func AnyDeviceEndpoint(endpoint string) string { return devicePrefix + "*.*." + endpoint }

// PartReplyPrefix is the inbox prefix of RCCS's own parts: no service and no
// device hears what lies below it.
const PartReplyPrefix = "_RCCS"

// importReply begins the reply subjects that NATS servers put in the place of
// those of services, see [ServiceImports]. Nobody else can use it.
const importReply = "_R_."

// IsImportReply reports whether NATS has made a reply subject, for a message that
// came by an import of [ServiceImports]. NATS refuses such a subject from clients.
func IsImportReply(subject string) bool { return strings.HasPrefix(subject, importReply) }

// IsClientReply reports whether a reply subject is one of a service, of a NATS
// client in the tenant's account that was left alone, or one of RCCS's own
// parts. None of them is a device's, a stream's, or an API's.
func IsClientReply(subject string) bool {
	if IsImportReply(subject) {
		return true
	}
	if rest, ok := strings.CutPrefix(subject, PartReplyPrefix+"."); ok {
		return rest != ""
	}
	rest, ok := strings.CutPrefix(subject, "_INBOX.")
	return ok && rest != "" && strings.Count(rest, ".") <= 1
}

// Release is where an edge is asked to let go of a device that has connected
// elsewhere; edge is its id.
func Release(edge string) string { return "rccs.edge." + edge + ".release" }

// Members is where coordinators tell each other, in core NATS, that they are there.
func Members() string { return PartEndpoint("members") }

// Redirected is where edges tell each other, in core NATS, that a device was told
// to connect elsewhere.
const Redirected = "rccs.edge.redirected"

// Audit is where it is kept that something was done.
func Audit(action string) string { return "rccs.audit." + action }

// AllAudits is the subject of [StreamAudit].
func AllAudits() string { return "rccs.audit.*" }

// Drain is where an edge is asked to send its devices elsewhere, or to take them
// again; edge is its id.
func Drain(edge string) string { return "rccs.edge." + edge + ".drain" }

// PartEndpoint is an endpoint of the coordinator for RCCS's own parts alone:
// services may call what has one token behind "rccs.coordinator", and this has
// two.
func PartEndpoint(endpoint string) string { return "rccs.coordinator.part." + endpoint }
