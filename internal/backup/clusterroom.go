package backup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Room says how much a server of a cluster may still store.
type Room struct {
	Server string
	Bytes  uint64
}

// checkRoom refuses a cluster that has no room for so many copies of all messages,
// each copy of a stream on a server of its own. In a larger cluster NATS chooses
// the servers, so more than this may be needed there.
func (f *File) checkRoom(copies int, servers []Room) error {
	var all, largest uint64
	for i := range f.Manifest.Streams {
		bytes := f.Manifest.Streams[i].Bytes
		all, largest = addUp(all, bytes), max(largest, bytes)
	}
	each, why := largest, "of its largest stream alone"
	if len(servers) <= copies {
		each, why = all, "of all messages"
	}
	slices.SortFunc(servers, func(a, b Room) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var short []string
	var some, needed uint64
	for n, s := range servers {
		some = addUp(some, min(s.Bytes, all))
		if n < copies && s.Bytes < each {
			short = append(short, fmt.Sprintf("%s may store %s more", s.Server, mebibytes(s.Bytes)))
		}
	}
	for range copies {
		needed = addUp(needed, all)
	}
	const do = "raise max_file_store in nats.conf there, or leave tenants out (--without-tenant)"
	switch {
	case len(short) > 0:
		return fmt.Errorf("the cluster has no room for the backup: a server needs %s for its copy %s, and %s: %s",
			mebibytes(each), why, strings.Join(short, ", "), do)
	case len(servers) > copies && some < needed:
		return fmt.Errorf("the cluster has no room for the backup: its %d servers may store %s more, and %d copies need %s: %s",
			len(servers), mebibytes(some), copies, mebibytes(needed), do)
	}
	return nil
}

// mebibytes is a number of bytes for people, never less than it is.
func mebibytes(n uint64) string {
	whole := n >> 20
	if n&(1<<20-1) != 0 {
		whole++
	}
	return fmt.Sprintf("%d MiB", whole)
}
