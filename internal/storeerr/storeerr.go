// Package storeerr is the one place that decides what an error of JetStream
// means: whether it may pass by itself, whether the store has no room, and
// whether a compare-and-set was lost. It knows the errors of nats.go's
// jetstream and those of our own publisher alike.
package storeerr

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Error is a refusal by JetStream in answer to a publish.
type Error struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("the message store refused: %s (%d)", e.Description, e.ErrCode)
}

// Error codes of JetStream.
const (
	accountFull    = 10002 // a limit of the account
	noResources    = 10023
	noMemory       = 10028
	storageFull    = 10047
	wrongLastSeq   = 10071
	notStored      = 10077 // for a reason that only the description has
	wrongInProcess = 10164 // wrongLastSeq in a cluster, against one being stored
	noPeers        = 10005 // the servers of a cluster that a stream may not be on
	streamOffline  = 10118
)

// IDInProcess refuses a message while one with its id is being stored.
const IDInProcess = 10158

// batchRepeated refuses a batch that was stored before.
const batchRepeated = 10201

// fewServers are the refusals that end when more servers of a cluster are there.
var fewServers = []int{
	noResources,
	noPeers,
	10008, // temporarily unavailable
	10009, // not the leader
	10010, // clustering support required
	streamOffline,
}

const (
	// maxBytes is the description of [notStored] by a stream at its bound.
	maxBytes = "maximum bytes exceeded"
	// noStorage is in the description of [noPeers] when a server has too little room.
	noStorage = "insufficient storage"
)

// refusal returns the codes of a refusal by JetStream, if err is one.
func refusal(err error) (code, errCode int, ok bool) {
	e, ok := refused(err)
	return e.Code, e.ErrCode, ok
}

func refused(err error) (Error, bool) {
	if e, found := errors.AsType[*Error](err); found {
		return *e, true
	}
	if e, found := errors.AsType[*jetstream.APIError](err); found {
		return Error{e.Code, int(e.ErrorCode), e.Description}, true
	}
	return Error{}, false
}

// Full reports whether what is stored has reached a limit, the stream's, the
// account's or the server's. It passes when something is removed or the limit is raised.
func Full(err error) bool {
	e, ok := refused(err)
	return ok && (slices.Contains([]int{accountFull, noResources, storageFull}, e.ErrCode) || e.ErrCode == notStored && e.Description == maxBytes)
}

// NoRoom reports whether a server cannot set aside what a stream's bound asks for.
func NoRoom(err error) bool {
	_, errCode, ok := refusal(err)
	return ok && (errCode == storageFull || errCode == noMemory)
}

// NoRoomAnywhere is [NoRoom] for a stream that a cluster is to find servers for. A
// cluster that has just started says the same of servers whose stores it does not know yet.
func NoRoomAnywhere(err error) bool {
	e, ok := refused(err)
	return NoRoom(err) || ok && e.ErrCode == noPeers && strings.Contains(e.Description, noStorage)
}

// Lost reports whether a compare-and-set was lost to another writer.
func Lost(err error) bool {
	_, errCode, ok := refusal(err)
	return errors.Is(err, jetstream.ErrKeyExists) || ok && (errCode == wrongLastSeq || errCode == wrongInProcess)
}

// Repeated reports whether a batch was stored before.
func Repeated(err error) bool {
	_, errCode, ok := refusal(err)
	return ok && errCode == batchRepeated
}

// FewServers reports whether JetStream refuses for want of servers of the
// cluster, which may still be starting or electing a leader.
func FewServers(err error) bool {
	code, errCode, ok := refusal(err)
	return ok && (code == 503 || slices.Contains(fewServers, errCode))
}

// Offline reports whether all servers are down that have the stream.
func Offline(err error) bool {
	_, errCode, ok := refusal(err)
	return ok && errCode == streamOffline
}

// Passes reports whether the same may succeed later without anybody changing
// it: everything but a refusal of what was asked itself.
func Passes(err error) bool {
	code, errCode, ok := refusal(err)
	if !ok || code < 400 || code > 499 || Full(err) || FewServers(err) {
		return true
	}
	switch errCode {
	case IDInProcess, wrongInProcess, batchRepeated:
		return true
	}
	switch code {
	case 404, 408, 429: // the stream is being made, a timeout, too many requests
		return true
	}
	return false
}
