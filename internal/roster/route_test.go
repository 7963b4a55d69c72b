package roster_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// dev is a registered device that was active at a time; 0 is offline.
func dev(id, typ string, active int64, held ...string) roster.Device {
	slices.Sort(held)
	return roster.Device{
		ID: subjects.DeviceID(id), Type: typ, Held: held, Online: active > 0, Active: active, Record: &roster.Record{Type: typ},
	}
}

const (
	files  = "supportsFileSync"
	notify = "supportsNotifications"
)

// household is a user's devices: a phone that sends, and others.
func household() []roster.Device {
	return []roster.Device{
		dev("watch", "watch", 0, notify),
		dev("phone", "mobile", 50, files, notify),
		dev("mac", "desktop", 10, files),
		dev("pc", "desktop", 0, notify),
		dev("chrome", "extension", 20),
	}
}

func to(t wire.To) roster.Message {
	return roster.Message{Type: "x", To: t, HasTo: true, From: "phone"}
}

func TestEveryRowOfTheRoutingTable(t *testing.T) {
	t.Parallel()
	everyOther := []subjects.DeviceID{"chrome", "mac", "pc", "watch"}
	type row struct {
		m    roster.Message
		want []subjects.DeviceID
	}
	rows := map[string]row{
		"any other type":           {roster.Message{Type: "x.y", From: "phone"}, everyOther},
		"any other of a service":   {roster.Message{Type: "x.y"}, []subjects.DeviceID{"chrome", "mac", "pc", "phone", "watch"}},
		"notification":             {roster.Message{Type: "notification", From: "phone"}, []subjects.DeviceID{"pc", "watch"}},
		"notification, service":    {roster.Message{Type: "notification"}, []subjects.DeviceID{"pc", "phone", "watch"}},
		"handoff":                  {roster.Message{Type: "device_handoff", To: wire.To{Device: "pc"}, HasTo: true, From: "phone"}, []subjects.DeviceID{"pc", "phone"}},
		"handoff to itself":        {roster.Message{Type: "device_handoff", To: wire.To{Device: "phone"}, HasTo: true, From: "phone"}, []subjects.DeviceID{"phone"}},
		"handoff of a service":     {roster.Message{Type: "device_handoff", To: wire.To{Device: "pc"}, HasTo: true}, []subjects.DeviceID{"pc"}},
		"handoff of one forgotten": {roster.Message{Type: "device_handoff", To: wire.To{Device: "pc"}, HasTo: true, From: "gone"}, []subjects.DeviceID{"pc"}},
		"device":                   {to(wire.To{Device: "watch"}), []subjects.DeviceID{"watch"}},
		"device, the sender":       {to(wire.To{Device: "phone"}), []subjects.DeviceID{"phone"}},
		"all":                      {to(wire.To{}), everyOther},
		"all, said":                {to(wire.To{Mode: wire.ModeAll}), everyOther},
		"any":                      {to(wire.To{Mode: wire.ModeAny}), []subjects.DeviceID{"chrome"}},
		"type":                     {to(wire.To{DeviceType: "desktop"}), []subjects.DeviceID{"mac", "pc"}},
		"any of a type":            {to(wire.To{DeviceType: "desktop", Mode: wire.ModeAny}), []subjects.DeviceID{"mac"}},
		"capability":               {to(wire.To{Capability: notify}), []subjects.DeviceID{"pc", "watch"}},
		"any with a capability":    {to(wire.To{Capability: files, Mode: wire.ModeAny}), []subjects.DeviceID{"mac"}},
		"the selector, not the type": {
			roster.Message{Type: "notification", To: wire.To{DeviceType: "extension"}, HasTo: true, From: "phone"},
			[]subjects.DeviceID{"chrome"},
		},
	}
	for _, typ := range []string{"user_message", "user_response"} {
		rows[typ] = row{roster.Message{Type: typ, From: "phone"}, everyOther}
	}
	for _, typ := range []string{"file_upload", "file_download", "file_sync", "file_delete"} {
		rows[typ] = row{roster.Message{Type: typ, From: "phone"}, []subjects.DeviceID{"mac"}}
	}
	for _, typ := range []string{"task_start", "task_pause", "task_resume", "task_cancel", "task_status"} {
		rows[typ] = row{roster.Message{Type: typ, From: "phone"}, []subjects.DeviceID{"chrome"}}
		rows[typ+", held"] = row{roster.Message{Type: typ, From: "phone", Holder: "mac"}, []subjects.DeviceID{"mac"}}
		rows[typ+", held by one offline"] = row{roster.Message{Type: typ, From: "phone", Holder: "pc"}, []subjects.DeviceID{"pc"}}
		rows[typ+", holder forgotten"] = row{roster.Message{Type: typ, From: "phone", Holder: "gone"}, []subjects.DeviceID{"chrome"}}
	}
	for name, c := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := roster.Route(c.m, household())
			if err != nil || d.Wait || !slices.Equal(d.Targets, c.want) {
				t.Errorf("goes to %q (wait %v, error %v), want %q", d.Targets, d.Wait, err, c.want)
			}
		})
	}
}

func TestOneOfManyIsTheOnlineOneMostRecentlyActive(t *testing.T) {
	t.Parallel()
	task := roster.Message{Type: "task_start", From: "phone"}
	for name, c := range map[string]struct {
		devices []roster.Device
		want    string // empty: it waits
	}{
		"most recent":                {[]roster.Device{dev("a", "desktop", 3), dev("b", "desktop", 7), dev("c", "desktop", 5)}, "b"},
		"of equals the first name":   {[]roster.Device{dev("c", "desktop", 7), dev("b", "extension", 7), dev("d", "desktop", 7)}, "b"},
		"online before active":       {[]roster.Device{{ID: "a", Type: "desktop", Active: 9}, dev("b", "desktop", 1)}, "b"},
		"none online":                {[]roster.Device{dev("a", "desktop", 0), dev("b", "extension", 0)}, ""},
		"one of another type online": {[]roster.Device{dev("a", "desktop", 0), dev("b", "tablet", 4)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := roster.Route(task, c.devices)
			if err != nil || d.Wait != (c.want == "") {
				t.Fatalf("%+v %v", d, err)
			}
			if c.want != "" && !slices.Equal(d.Targets, []subjects.DeviceID{subjects.DeviceID(c.want)}) {
				t.Errorf("goes to %q", d.Targets)
			}
		})
	}
}

func TestWithoutADeviceTheSenderIsTold(t *testing.T) {
	t.Parallel()
	alone := []roster.Device{dev("phone", "desktop", 1, files, notify)}
	for name, c := range map[string]struct {
		m       roster.Message
		devices []roster.Device
		want    wire.Code
	}{
		"nobody else":               {roster.Message{Type: "user_message", From: "phone"}, alone, wire.DeviceNotFound},
		"nobody at all":             {roster.Message{Type: "user_message"}, nil, wire.DeviceNotFound},
		"no other desktop":          {roster.Message{Type: "task_start", From: "phone"}, alone, wire.DeviceNotFound},
		"holder forgotten, no more": {roster.Message{Type: "task_start", From: "phone", Holder: "gone"}, alone, wire.DeviceNotFound},
		"no other for files":        {roster.Message{Type: "file_sync", From: "phone"}, alone, wire.DeviceNotFound},
		"no other to notify":        {roster.Message{Type: "notification", From: "phone"}, alone, wire.DeviceNotFound},
		"unknown device":            {to(wire.To{Device: "gone"}), alone, wire.DeviceNotFound},
		"unknown type":              {to(wire.To{DeviceType: "car"}), household(), wire.DeviceNotFound},
		"unknown capability":        {to(wire.To{Capability: "flies"}), household(), wire.DeviceNotFound},
		"any of none":               {to(wire.To{DeviceType: "car", Mode: wire.ModeAny}), household(), wire.DeviceNotFound},
		"handoff to nobody":         {roster.Message{Type: "device_handoff", From: "phone"}, household(), wire.BadMessage},
		"handoff to a type":         {roster.Message{Type: "device_handoff", To: wire.To{DeviceType: "desktop"}, HasTo: true, From: "phone"}, household(), wire.BadMessage},
		"handoff to an unknown":     {roster.Message{Type: "device_handoff", To: wire.To{Device: "gone"}, HasTo: true, From: "phone"}, household(), wire.DeviceNotFound},
		"services are no devices":   {to(wire.To{Service: true}), household(), wire.BadMessage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := roster.Route(c.m, c.devices)
			if err == nil || !errors.Is(err, c.want) || len(d.Targets) > 0 || d.Wait {
				t.Errorf("%+v %v, want %s", d, err, c.want)
			}
		})
	}
}

// Whatever is asked for: targets are devices of the user, each once, sorted,
// and the sender only where the protocol says so.
func TestTargetsAreDevicesOfTheUser(t *testing.T) {
	t.Parallel()
	names := []string{"", "a", "b", "c", "d", "e"}
	types := []string{"", "desktop", "extension", "mobile"}
	held := []string{"", files, notify, "other"}
	kinds := []string{"user_message", "notification", "file_sync", "task_start", "task_status", "device_handoff", "custom"}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(from []string, label string) string { return rapid.SampledFrom(from).Draw(t, label) }
		var devices []roster.Device
		ids := make(map[subjects.DeviceID]*roster.Device)
		for _, id := range rapid.SliceOfDistinct(rapid.SampledFrom(names[1:]), rapid.ID[string]).Draw(t, "devices") {
			d := dev(id, pick(types, "type"), rapid.Int64Range(0, 2).Draw(t, "active"), pick(held, "held"))
			devices = append(devices, d)
			ids[d.ID] = &d
		}
		m := roster.Message{
			Type: pick(kinds, "kind"), From: subjects.DeviceID(pick(names, "from")), Holder: subjects.DeviceID(pick(names, "holder")),
			HasTo: rapid.Bool().Draw(t, "hasTo"),
		}
		if m.HasTo {
			m.To.Mode = pick([]string{"", wire.ModeAll, wire.ModeAny}, "mode")
			switch rapid.IntRange(0, 3).Draw(t, "selector") {
			case 0:
				m.To.Device = subjects.DeviceID(pick(names, "to"))
			case 1:
				m.To.DeviceType = pick(types, "toType")
			case 2:
				m.To.Capability = pick(held, "toCapability")
			}
		}
		d, err := roster.Route(m, devices)
		if err != nil {
			if len(d.Targets) > 0 || d.Wait {
				t.Fatalf("an error and targets: %+v %v", d, err)
			}
			return
		}
		if d.Wait == (len(d.Targets) > 0) {
			t.Fatalf("neither targets nor waiting, or both: %+v", d)
		}
		if !slices.IsSorted(d.Targets) || len(slices.Compact(slices.Clone(d.Targets))) != len(d.Targets) {
			t.Fatalf("not sorted, or twice: %q", d.Targets)
		}
		for _, id := range d.Targets {
			if ids[id] == nil {
				t.Fatalf("%q is no device of the user", id)
			}
			named := m.HasTo && m.To.Device == id
			if id == m.From && !named && m.Type != "device_handoff" && id != m.Holder {
				t.Fatalf("the sender gets %+v", m)
			}
		}
	})
}
