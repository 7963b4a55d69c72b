package backup

import (
	"math"
	"strings"
	"testing"
)

// A cluster on whose servers a backup has no room is refused, and each server that is
// too small is named with what it needs and has.
func TestABackupThatAClusterHasNoRoomForIsRefused(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	of := func(sizes ...uint64) *File {
		f := &File{Manifest: new(Manifest)}
		for _, bytes := range sizes {
			s := Stream{}
			s.Bytes = bytes
			f.Manifest.Streams = append(f.Manifest.Streams, s)
		}
		return f
	}
	servers := func(sizes ...uint64) (all []Room) {
		for n, bytes := range sizes {
			all = append(all, Room{string(rune('a' + n)), bytes})
		}
		return all
	}
	for name, c := range map[string]struct {
		backup  *File
		servers []Room
		says    []string // none: there is room
	}{
		"room":                      {of(3*mib, 2*mib), servers(5*mib, 5*mib, 5*mib), nil},
		"two are too small":         {of(3*mib, 2*mib), servers(5*mib-1, 9*mib, 0), []string{"needs 5 MiB", "a may store 5 MiB", "c may store 0 MiB", "max_file_store"}},
		"five that have room":       {of(3*mib, 2*mib), servers(3*mib, 3*mib, 3*mib, 3*mib, 3*mib), nil},
		"five, and two large ones":  {of(3*mib, 2*mib), servers(9*mib, 9*mib, 2*mib, 2*mib, 2*mib), []string{"needs 3 MiB", "c may store 2 MiB"}},
		"five that are small":       {of(2*mib, 2*mib, 2*mib), servers(3*mib, 3*mib, 3*mib, 3*mib, 3*mib), []string{"5 servers may store 15 MiB", "3 copies need 18 MiB"}},
		"sizes that nobody has":     {of(math.MaxUint64, math.MaxUint64), servers(mib, mib, mib), []string{"needs"}},
		"servers that do not say":   {of(5 * mib), nil, nil},
		"one of three that answers": {of(5 * mib), servers(4 * mib), []string{"a may store 4 MiB"}},
	} {
		err := c.backup.checkRoom(3, c.servers)
		if len(c.says) == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for _, says := range c.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q", name, err, says)
			}
		}
	}
}
