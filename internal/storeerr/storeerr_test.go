package storeerr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/storeerr"
)

func TestErrorsOfTheStoreAreTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err                error
		passes, full, lost bool
	}{
		"a timeout":                            {errors.New("timeout"), true, false, false},
		"the account's limit":                  {&storeerr.Error{Code: 400, ErrCode: 10002}, true, true, false},
		"no resources":                         {&storeerr.Error{Code: 503, ErrCode: 10023}, true, true, false},
		"a stream at its bound":                {&storeerr.Error{Code: 503, ErrCode: 10077, Description: "maximum bytes exceeded"}, true, true, false},
		"no storage":                           {&storeerr.Error{Code: 500, ErrCode: 10047}, true, true, false},
		"the id is being stored":               {&storeerr.Error{Code: 409, ErrCode: 10158}, true, false, false},
		"the batch was stored before":          {&storeerr.Error{Code: 400, ErrCode: 10201}, true, false, false},
		"a lost compare-and-set":               {&storeerr.Error{Code: 400, ErrCode: 10071}, false, false, true},
		"a lost compare-and-set, in a cluster": {&storeerr.Error{Code: 400, ErrCode: 10164}, true, false, true},
		"the same of a bucket":                 {fmt.Errorf("x: %w", &jetstream.APIError{Code: 400, ErrorCode: 10164}), true, false, true},
		"a key that exists":                    {jetstream.ErrKeyExists, false, false, true},
		"too large":                            {&storeerr.Error{Code: 400, ErrCode: 10054}, false, false, false},
		"servers that are not there yet":       {&jetstream.APIError{Code: 400, ErrorCode: 10005}, true, false, false},
		"a stream that is not there":           {&jetstream.APIError{Code: 404, ErrorCode: 10059}, true, false, false},
	} {
		if storeerr.Passes(c.err) != c.passes || storeerr.Full(c.err) != c.full || storeerr.Lost(c.err) != c.lost {
			t.Errorf("%s: passes %v, full %v, lost %v", name, storeerr.Passes(c.err), storeerr.Full(c.err), storeerr.Lost(c.err))
		}
	}
}

// A bound that a server has no disk, or no memory, to set aside is left out. Any other
// refusal is an error.
func TestServerWithoutRoomForABoundIsTold(t *testing.T) {
	t.Parallel()
	for errCode, want := range map[jetstream.ErrorCode]bool{10047: true, 10028: true, 10023: false, 10058: false} {
		if got := storeerr.NoRoom(fmt.Errorf("x: %w", &jetstream.APIError{Code: 500, ErrorCode: errCode})); got != want {
			t.Errorf("%d: %t, want %t", errCode, got, want)
		}
	}
}

// A server alone says that it has no room, and a cluster that none of its servers has.
// A cluster without enough servers may get them.
func TestClusterWithoutRoomForABoundIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		errCode jetstream.ErrorCode
		words   string
		want    bool
	}{
		{10047, "insufficient storage resources available", true},
		{10005, "no suitable peers for placement, insufficient storage", true},
		{10005, "no suitable peers for placement, peer offline", false},
		{10023, "insufficient resources", false},
	} {
		if got := storeerr.NoRoomAnywhere(fmt.Errorf("x: %w", &jetstream.APIError{Code: 400, ErrorCode: c.errCode, Description: c.words})); got != c.want {
			t.Errorf("%d %s: %t, want %t", c.errCode, c.words, got, c.want)
		}
	}
}

// A stream all of whose servers are down is told from one without a leader.
func TestStreamWithoutServersIsTold(t *testing.T) {
	t.Parallel()
	for errCode, want := range map[jetstream.ErrorCode]bool{10118: true, 10009: false, 10008: false} {
		if got := storeerr.Offline(fmt.Errorf("x: %w", &jetstream.APIError{Code: 500, ErrorCode: errCode})); got != want {
			t.Errorf("%d: %t, want %t", errCode, got, want)
		}
	}
}
