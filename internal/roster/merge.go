package roster

import (
	"slices"
	"strings"
)

// MergeEdges returns the edges of several shards, each process once, by name: an
// edge has a lease in each shard that it serves. What it cannot serve of one is
// said of it, and not which of the shards it has taken up. Two processes of one name
// stay two, so that operators see them.
func MergeEdges(leases []Edge) []Edge {
	all := []Edge{}
	for _, e := range leases {
		e.TakenUp = false
		i := slices.IndexFunc(all, e.SameProcess)
		if i < 0 {
			all = append(all, e)
			continue
		}
		all[i].Devices += e.Devices
		if all[i].Unready == "" {
			all[i].Unready = e.Unready
		}
		if all[i].Unserved == "" {
			all[i].Unserved = e.Unserved
		}
		all[i].Draining = all[i].Draining || e.Draining
		if e.Started.Before(all[i].Started) {
			all[i].Started = e.Started
		}
	}
	slices.SortFunc(all, func(a, b Edge) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// SameProcess reports whether two leases, of different shards, are of one process.
func (e Edge) SameProcess(other Edge) bool { return e.Name == other.Name && e.Process == other.Process }
