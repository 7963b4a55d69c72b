package ops

import (
	"slices"
	"strings"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Directory lists devices from a roster, which has all of them in memory, so
// that a search over many asks no store.
type Directory struct {
	rosters []*roster.Roster  // by shard
	edges   map[string]string // names of the edges that live, by id
	leases  []roster.Edge     // theirs, of all shards
}

// NewDirectory is the directory of what the rosters of a tenant's shards know now.
func NewDirectory(rosters ...*roster.Roster) *Directory {
	d := &Directory{rosters: rosters, edges: make(map[string]string)}
	for _, r := range rosters {
		for _, e := range r.Edges() {
			d.edges[e.ID] = e.Name
			d.leases = append(d.leases, e)
		}
	}
	return d
}

// of returns the roster that has a user's devices.
func (d *Directory) of(user subjects.UserID) *roster.Roster {
	return d.rosters[shard.OfUser(user, len(d.rosters))]
}

// Device looks one up; nil when it is not registered.
func (d *Directory) Device(a subjects.Address) *Device {
	r, ok := d.of(a.User).Device(a.Key())
	if !ok {
		return nil
	}
	return newDevice(a, &r, d.edges)
}

// ids returns the ids that the edge of this one has: in each shard another.
func (d *Directory) ids(id string) (ids []string) {
	i := slices.IndexFunc(d.leases, func(e roster.Edge) bool { return e.ID == id })
	for _, e := range d.leases {
		if i >= 0 && e.SameProcess(d.leases[i]) {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// each calls yield for every device that the query wants, in no order. Only
// what is yielded costs memory: views of all devices would be megabytes.
func (d *Directory) each(q *DeviceQuery, yield func(subjects.Address, *roster.Device)) {
	if len(d.rosters) > 1 && q.Edge != "" {
		own := *q
		own.edges = d.ids(q.Edge)
		q = &own
	}
	take := func(r roster.Device) bool {
		if a, err := r.Key.Address(); err == nil && q.admits(a, &r, d.edges) {
			yield(a, &r)
		}
		return true
	}
	if q.User == "" {
		for _, r := range d.rosters {
			r.All(take)
		}
		return
	}
	for _, r := range d.of(q.User).User(subjects.Address{User: q.User, Device: "-"}.Key()) {
		take(r)
	}
}

// admits reports whether a device of the roster is one that the query wants.
func (q *DeviceQuery) admits(a subjects.Address, r *roster.Device, edges map[string]string) bool {
	status := r.Status
	if _, lives := edges[r.Edge]; !lives || !r.Online {
		status = wire.Offline
	}
	online := status != wire.Offline
	return (online || !q.Online) && (q.Type == "" || r.Type == q.Type) && (q.Status == "" || q.Status == status) &&
		(q.Edge == "" || online && (r.Edge == q.Edge || edges[r.Edge] == q.Edge || slices.Contains(q.edges, r.Edge))) && q.names(a)
}

// names reports whether the query's text is part of the name: of the device's
// within one user, else of USER/DEVICE.
func (q *DeviceQuery) names(a subjects.Address) bool {
	if q.Text == "" {
		return true
	}
	if q.User != "" {
		return holds(string(a.Device), q.Text)
	}
	return holds(a.String(), q.Text)
}

// holds reports whether text is part of a name, in capitals or not.
func holds(name, text string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(text))
}

// Devices lists devices by user and name. more reports whether there are others
// behind those that were returned.
func (d *Directory) Devices(q DeviceQuery) (list []*Device, more bool) {
	var found []subjects.Address
	d.each(&q, func(a subjects.Address, _ *roster.Device) {
		if compareAddress(a, q.After) > 0 {
			found = append(found, a)
		}
	})
	slices.SortFunc(found, compareAddress)
	if q.Limit > 0 && len(found) > q.Limit {
		found, more = found[:q.Limit], true
	}
	list = make([]*Device, 0, len(found))
	for _, a := range found {
		if device := d.Device(a); device != nil {
			list = append(list, device)
		}
	}
	return list, more
}

// Online is how many devices are connected.
func (d *Directory) Online() (n int) {
	for _, r := range d.rosters {
		n += r.CountOnline(func(edge string) bool { _, lives := d.edges[edge]; return lives })
	}
	return n
}

// User is a user as operators see it.
type User struct {
	User    string `json:"user"`
	Devices int    `json:"devices"` // registered
	Online  int    `json:"online"`
}

// UserQuery says which users to list: those with a device of the type and the
// status, where set, and with Text in their name, in capitals or not.
type UserQuery struct {
	Type, Status, Text string
	// After goes on behind this user.
	After subjects.UserID
	// Limit bounds the list; 0: no bound.
	Limit int
}

// Users lists the users that have a registered device, by name. more reports
// whether there are others behind those that were returned.
func (d *Directory) Users(q UserQuery) (list []User, more bool) {
	type tally struct {
		User
		wanted bool
	}
	byName := make(map[subjects.UserID]*tally)
	wanted := DeviceQuery{Type: q.Type, Status: q.Status}
	online := DeviceQuery{Online: true}
	d.each(&DeviceQuery{}, func(a subjects.Address, r *roster.Device) {
		if a.User <= q.After || !holds(string(a.User), q.Text) {
			return
		}
		u := byName[a.User]
		if u == nil {
			u = &tally{User: User{User: string(a.User)}}
			byName[a.User] = u
		}
		u.Devices++
		if online.admits(a, r, d.edges) {
			u.Online++
		}
		u.wanted = u.wanted || wanted.admits(a, r, d.edges)
	})
	list = make([]User, 0, len(byName))
	for _, u := range byName {
		if u.wanted {
			list = append(list, u.User)
		}
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.User, b.User) })
	if q.Limit > 0 && len(list) > q.Limit {
		list, more = list[:q.Limit], true
	}
	return list, more
}
