package roster

import (
	"iter"
	"slices"

	"github.com/rccs-io/rccs/subjects"
)

// fewDevices is up to how many devices of a user are searched one by one.
const fewDevices = 16

// userDevices are the devices of one user. Most users have a few. A map for each
// of them would take more memory than all that is known of the devices.
type userDevices struct {
	few  []*device                // in no order
	many map[subjects.Key]*device // in place of few, once there are too many
}

func (u userDevices) len() int { return max(len(u.few), len(u.many)) }

// find returns the device, or nil.
func (u userDevices) find(k subjects.Key) *device {
	if u.many != nil {
		return u.many[k]
	}
	for _, d := range u.few {
		if d.key == k {
			return d
		}
	}
	return nil
}

// all yields each device, in no order.
func (u userDevices) all() iter.Seq[*device] {
	return func(yield func(*device) bool) {
		for _, d := range u.few {
			if !yield(d) {
				return
			}
		}
		for _, d := range u.many {
			if !yield(d) {
				return
			}
		}
	}
}

// with returns the devices and one more, which is not among them.
func (u userDevices) with(d *device) userDevices {
	if u.many == nil && len(u.few) < fewDevices {
		u.few = append(u.few, d)
		return u
	}
	if u.many == nil {
		u.many = make(map[subjects.Key]*device, 2*fewDevices)
		for _, other := range u.few {
			u.many[other.key] = other
		}
		u.few = nil
	}
	u.many[d.key] = d
	return u
}

// without returns the devices but d.
func (u userDevices) without(d *device) userDevices {
	delete(u.many, d.key)
	u.few = slices.DeleteFunc(u.few, func(other *device) bool { return other == d })
	return u
}
