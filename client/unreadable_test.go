package client

import (
	"slices"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

func TestSeqsAreFoundInWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]uint64{
		``:                                      nil,
		`{"seq":5}`:                             {5},
		`{ "seq" : 5 , "payload":{"seq":6}}`:    {5},
		`[{"seq":5},{"payload":[{"seq":6}]}]`:   {5},
		`{"a":"seq","b":"\"seq\":4","seq":7`:    {7},
		`{"seq":"5"}`:                           nil,
		`{"seq":0}`:                             nil,
		`{"seq":4503599627370497,"type":"topi`:  nil,
		`{"seq":99999999999999999999999999999}`: nil,
		`seq":5`:                                nil,
	} {
		if got := seqsIn([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%s holds %v, want %v", text, got, want)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, text := range []string{
		`{"type":"note","id":"a","seq":5,"payload":1}`, `[{"type":"note","id":"a","payload":1},{"seq":3}]`, `{"seq":7,"payl`, `[{]}`, "\xff", `"\`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		unread := 0
		items := readFrame(nil, frame, func(text []byte, why error) {
			unread++
			if why == nil || len(text) > len(frame) {
				t.Errorf("%q of %q cannot be read because of %v", text, frame, why)
			}
			for _, seq := range seqsIn(text) {
				if seq == 0 || seq >= topicSeqs {
					t.Errorf("%q holds %d", text, seq)
				}
			}
		})
		want, err := wire.DecodeFrame(nil, frame)
		if err != nil {
			if unread == 0 {
				t.Errorf("%q was read, and cannot be: %v", frame, err)
			}
			return
		}
		want = slices.DeleteFunc(want, func(item wire.Item) bool { return item.Err != nil })
		if len(items) != len(want) {
			t.Errorf("%q holds %d messages that can be read, want %d", frame, len(items), len(want))
		}
	})
}
