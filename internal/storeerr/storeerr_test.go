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
