package backup

import (
	"bytes"
	"io"
	"math"
	"testing"

	"github.com/rccs-io/rccs/internal/backbone"
)

// A manifest whose sizes are together more than can be counted does not come out as
// a small one.
func TestSizesThatAreTooLargeToAddUpNeedMoreRoomThanAnyDiskHas(t *testing.T) {
	t.Parallel()
	f := &File{Manifest: new(Manifest), parts: map[string]*io.SectionReader{"a": io.NewSectionReader(bytes.NewReader(make([]byte, 9)), 0, 9)}}
	for range 3 {
		s := Stream{Part: "a"}
		s.Bytes = math.MaxUint64 / 2
		f.Manifest.Streams = append(f.Manifest.Streams, s)
	}
	if got := f.room(true); got != math.MaxUint64 {
		t.Errorf("%d bytes are needed", got)
	}
	if err := backbone.CheckRoomFor(t.TempDir(), math.MaxUint64); err == nil {
		t.Error("a disk has room for them")
	}
}
