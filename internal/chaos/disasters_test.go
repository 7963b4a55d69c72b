package chaos_test

import (
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rccs-io/rccs/wire"
)

// killAll kills every process at once, and starts them in an order.
func (c *cluster) killAll(rnd *rand.Rand, first, then []*proc) {
	c.t.Helper()
	for _, p := range c.procs {
		p.kill()
	}
	for _, p := range c.procs {
		p.signal(syscall.SIGKILL) // waits
	}
	for _, p := range first {
		p.start()
	}
	hold(c.t, rnd)
	for _, p := range then {
		p.start()
	}
	ready(c.t, c.procs)
}

// damageOne damages files of one server while it is down.
func (c *cluster) damageOne(rnd *rand.Rand) {
	c.t.Helper()
	c.current() // there must be another good copy
	p := c.server(rnd)
	p.signal([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[rnd.IntN(2)])
	damageFiles(c.t, p.data(), c.stream(damagedStreams[rnd.IntN(len(damagedStreams))], rnd), spoils[rnd.IntN(len(spoils))], rnd)
	p.start()
	ready(c.t, c.procs)
	c.current()
}

// fillOne has a server fail to write its files, as on a full disk. It ends, with
// the reason, and is started again when there is room.
func (c *cluster) fillOne(rnd *rand.Rand) {
	c.t.Helper()
	c.current()
	p := c.server(rnd)
	p.limitFiles()
	p.endsBroken()
	hold(c.t, rnd)
	p.start()
	ready(c.t, c.procs)
}

// smallFile is larger than no block file.
const smallFile = 4 << 10

// limitFiles has every write behind the beginning of a file fail, from here on
// to the end of the process. It needs no rights that a file system would.
func (p *proc) limitFiles() {
	p.t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(p.pid(), unix.RLIMIT_FSIZE, nil, &limit); err != nil {
		p.t.Fatal(err)
	}
	limit.Cur = smallFile
	if err := unix.Prlimit(p.pid(), unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		p.t.Fatal(err)
	}
}

// endsBroken waits until a process has ended by itself, because it cannot write.
func (p *proc) endsBroken() {
	p.t.Helper()
	eventually(p.t, p.Name+" ends, because it cannot write", p.exited, new(string))
	if status := p.exitStatus(); status != 1 {
		p.t.Errorf("%s ended with status %d", p.Name, status)
	}
}

// jump sets clocks ahead or back, and right again.
func (c *cluster) jump(rnd *rand.Rand, list ...*proc) { jump(c.t, rnd, list...) }

// Credentials are refused that are not valid yet; there is a leeway of a minute.
const (
	jumpAhead = time.Hour
	jumpBack  = -50 * time.Second
)

func jump(t *testing.T, rnd *rand.Rand, list ...*proc) {
	t.Helper()
	by := []time.Duration{jumpAhead, jumpBack}[rnd.IntN(2)]
	t.Logf("clocks of %d processes jump by %s", len(list), by)
	for _, skew := range []time.Duration{by, 0} {
		for _, p := range list {
			p.setClock(skew)
		}
		hold(t, rnd)
	}
	ready(t, list)
}

// purge removes what waits for a device that is away: it is told.
func (f *fleet) purge(rnd *rand.Rand, data string, at *proc) {
	f.t.Helper()
	l := f.listeners[rnd.IntN(len(f.listeners))]
	f.ledger.allow(wire.ReasonPurged)
	f.waiting(l)
	if status, out := at.command(data, "inbox", "purge", l.name, "--yes"); status != 0 {
		f.t.Errorf("purge: status %d\n%s", status, out)
	}
	l.resume()
}

// waiting has messages wait for a device that is away.
func (f *fleet) waiting(list ...*listener) {
	f.t.Helper()
	const enough = 100
	for _, l := range list {
		l.pause()
	}
	for _, l := range list {
		had := f.ledger.acceptedFor(l.name)
		eventually(f.t, "messages wait for "+l.name, func() bool { return f.ledger.acceptedFor(l.name) >= had+enough }, new(string))
	}
}

// faults are all ways to break a server alone that a fleet uses.
func (s *single) faults(f *fleet) []fault {
	again := func(how syscall.Signal) func(*rand.Rand) {
		return func(rnd *rand.Rand) {
			s.signal(how)
			if rnd.IntN(2) == 0 {
				hold(s.t, rnd)
			}
			s.startReady()
		}
	}
	list := []fault{
		{"SIGKILL", true, again(syscall.SIGKILL)},
		{"SIGTERM", false, again(syscall.SIGTERM)},
		{"a purge of what waits", true, func(rnd *rand.Rand) { f.purge(rnd, s.data, s.proc) }},
		{"files of it can grow no more", false, func(rnd *rand.Rand) {
			s.limitFiles()
			s.endsBroken()
			hold(s.t, rnd)
			s.startReady()
		}},
		{"its clock jumps", false, func(rnd *rand.Rand) { jump(s.t, rnd, s.proc) }},
		{"a restore of a backup", false, func(rnd *rand.Rand) { s.restore(rnd, f) }},
	}
	for _, how := range spoils {
		list = append(list, fault{how.name + " in what waits", how.name == "a flipped bit", func(rnd *rand.Rand) { s.damage(how, rnd, f) }})
	}
	if s.volume != "" {
		list = append(list, fault{"a full disk", false, s.fill})
	}
	return list
}

// startReady starts the server, and waits until it serves.
func (s *single) startReady() {
	s.t.Helper()
	if err := s.serving(); err != nil {
		s.t.Fatal(err)
	}
}

// damage damages the inboxes while messages wait for devices that are away.
func (s *single) damage(how spoil, rnd *rand.Rand, f *fleet) {
	s.t.Helper()
	f.ledger.allow(wire.ReasonDamaged)
	f.waiting(f.listeners...)
	s.stop(how, rnd)
	damageFiles(s.t, s.data, damagedStreams[0], how, rnd)
	s.startReady()
	for _, l := range f.listeners {
		l.resume()
	}
}

// restore brings the installation back to a backup that was made while it was
// used.
func (s *single) restore(rnd *rand.Rand, f *fleet) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "backup.tar")
	if status, out := s.command(s.data, "backup", "--out", file); status != 0 {
		s.t.Fatalf("backup: status %d\n%s", status, out)
	}
	hold(s.t, rnd)
	f.pause() // what comes after the backup is gone with it, and has arrived
	s.signal(syscall.SIGTERM)
	s.restoreFrom(file)
	s.startReady()
	f.resume()
}
