package wire

import "github.com/rccs-io/rccs/subjects"

// Statuses of a device: whether it is connected and, if so, what it says of its
// user.
const (
	Online  = "online"
	Away    = "away"
	Busy    = "busy"
	Offline = "offline" // never said by the device itself
)

// MaxStatusExtra is how much a device may say with its status beside the
// status, in bytes of JSON: it is held in memory for every device of a user.
const MaxStatusExtra = 4 << 10

// DeviceStatus is the payload of a device's device_status.
type DeviceStatus struct {
	Status string // Online, Away or Busy
	// Extra is an object of the members that RCCS gives no meaning, values as
	// they were sent; nil when there are none. The user's other devices see
	// them in presence and device_list. One that is named like a member of
	// either is left out by decoding, and must not be given for encoding: it
	// would be taken for that member.
	Extra []byte
}

// The fields of a device_status.
const (
	sStatus = iota
	statusFields
)

var statusNames = [statusFields]string{"payload.status"}

// DecodeDeviceStatus reads the payload of a device_status from a device. The
// error is an [*Error] with BAD_MESSAGE that names the field. Nothing in the
// answer aliases the payload.
func DecodeDeviceStatus(payload []byte) (DeviceStatus, error) {
	d := decoder{b: payload, names: statusNames[:]}
	if !d.payload(TypeStatus, `{"status":"away"}`, func(key []byte) int { return payloadField(statusNames[:], key) }) {
		return DeviceStatus{}, d.bad
	}
	const want = `"online", "away" or "busy"`
	s := DeviceStatus{Status: d.need(sStatus, want), Extra: d.others(ofDevice)}
	if s.Status != Online && s.Status != Away && s.Status != Busy {
		d.fail(sStatus, want)
	}
	if len(s.Extra) > MaxStatusExtra && d.bad == nil {
		d.bad = Errorf(BadMessage, "payload of device_status must be at most %d bytes beside its status", MaxStatusExtra)
	}
	if d.bad != nil {
		return DeviceStatus{}, d.bad
	}
	return s, nil
}

// AppendPayload appends the payload alone.
func (s *DeviceStatus) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"status":`...), s.Status)
	return append(appendMembers(dst, s.Extra), '}')
}

// The fields of a device, as other devices see it. In a presence its id is
// under deviceId.
const (
	vID = iota
	vDeviceID
	vType
	vPlatform
	vVersion
	vCapabilities
	vStatus
	vLastSeen
	deviceFields
)

var deviceNames = [deviceFields]string{
	"payload.id", "payload.deviceId", "payload.type", "payload.platform", "payload.version",
	"payload.capabilities", "payload.status", "payload.lastSeen",
}

func deviceField(key []byte) int { return payloadField(deviceNames[:], key) }

// ofDevice reports whether a key is that of a device's field.
func ofDevice(key []byte) bool { return deviceField(key) >= 0 }

// Presence is the payload of a presence: what changed at another device of the
// same user.
type Presence struct {
	DeviceID subjects.DeviceID
	Status   string // Online, Away, Busy or Offline
	Type     string // of the device; "" when it gave none
	LastSeen string // RFC 3339; "" when it is not known
	Extra    []byte // see [DeviceStatus]
}

// AppendPayload appends the payload alone.
func (p *Presence) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"deviceId":`...), string(p.DeviceID))
	dst = AppendString(append(dst, `,"status":`...), p.Status)
	dst = appendField(dst, `,"type":`, p.Type)
	dst = appendField(dst, `,"lastSeen":`, p.LastSeen)
	return append(appendMembers(dst, p.Extra), '}')
}

// Append appends the whole envelope, type presence, from the server.
func (p *Presence) Append(dst []byte) []byte {
	dst = append(appendHead(dst, TypePresence, "", ""), `,"payload":`...)
	return append(p.AppendPayload(dst), '}')
}

// DecodePresence reads the payload of a presence from an edge. A status of a
// later version comes as it is. The error is an [*Error] with BAD_MESSAGE.
// Nothing in the answer aliases the payload.
func DecodePresence(payload []byte) (Presence, error) {
	d := decoder{b: payload, names: deviceNames[:]}
	if !d.payload(TypePresence, `{"deviceId":"phone","status":"online"}`, deviceField) {
		return Presence{}, d.bad
	}
	p := Presence{
		DeviceID: subjects.DeviceID(d.needName(vDeviceID)), Status: d.need(vStatus, "a string"), Type: d.str(vType),
		LastSeen: d.str(vLastSeen), Extra: d.others(ofDevice),
	}
	if d.bad != nil {
		return Presence{}, d.bad
	}
	return p, nil
}

// Device is one device of the answer to device_list.
type Device struct {
	ID                      subjects.DeviceID
	Type, Platform, Version string // "" when it gave none
	Capabilities            []byte // the object as the device sent it; nil for none
	Status                  string // Online, Away, Busy or Offline
	LastSeen                string // RFC 3339; "" when it is not known
	Extra                   []byte // see [DeviceStatus]
}

// ListDevices is the payload of a device_list from a device.
type ListDevices struct {
	From subjects.DeviceID // the Next of the page before; "" is from the first device on
}

var listNames = [...]string{"payload.from"}

// DecodeListDevices reads the payload of a device_list from a device; one that
// is absent or null asks for the first page. The error is an [*Error] with
// BAD_MESSAGE.
func DecodeListDevices(payload []byte) (ListDevices, error) {
	if payload == nil || string(payload) == "null" {
		return ListDevices{}, nil
	}
	d := decoder{b: payload, names: listNames[:]}
	index := func(key []byte) int { return payloadField(listNames[:], key) }
	if !d.payload(TypeDeviceList, `{"from":"phone"}`, index) {
		return ListDevices{}, d.bad
	}
	l := ListDevices{From: subjects.DeviceID(d.str(0))}
	if d.bad != nil {
		return ListDevices{}, d.bad
	}
	return l, nil
}

// AppendPayload appends the payload alone.
func (l *ListDevices) AppendPayload(dst []byte) []byte {
	from := len(dst)
	return closeObject(appendField(dst, `,"from":`, string(l.From)), from)
}

// DeviceList is the payload of the ack that answers a device_list.
type DeviceList struct {
	OriginalID string
	Devices    []Device
	Next       subjects.DeviceID // the From to go on with; "" when there is no more
}

// Append appends the whole envelope, type ack, from the server.
func (l *DeviceList) Append(dst []byte) []byte { return appendAck(dst, l.AppendPayload) }

// AppendPayload appends the payload alone.
func (l *DeviceList) AppendPayload(dst []byte) []byte {
	dst = append(appendSuccess(dst, l.OriginalID, StatusSuccess), `,"devices":[`...)
	for i := range l.Devices {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = l.Devices[i].append(dst)
	}
	return append(appendField(append(dst, ']'), `,"next":`, string(l.Next)), '}')
}

func (v *Device) append(dst []byte) []byte {
	dst = AppendString(append(dst, `{"id":`...), string(v.ID))
	dst = appendField(dst, `,"type":`, v.Type)
	dst = appendField(dst, `,"platform":`, v.Platform)
	dst = appendField(dst, `,"version":`, v.Version)
	dst = appendRaw(dst, `,"capabilities":`, v.Capabilities)
	dst = AppendString(append(dst, `,"status":`...), v.Status)
	dst = appendField(dst, `,"lastSeen":`, v.LastSeen)
	return append(appendMembers(dst, v.Extra), '}')
}

// DecodeDeviceList reads the payload of the ack that answers a device_list.
// The error is an [*Error] with BAD_MESSAGE. Capabilities alias the payload.
func DecodeDeviceList(payload []byte) (*DeviceList, error) {
	const (
		lOriginal = iota
		lDevices
		lNext
	)
	names := [...]string{"payload.originalMessageId", "payload.devices", "payload.next"}
	d := decoder{b: payload, names: names[:]}
	index := func(key []byte) int { return payloadField(names[:], key) }
	if !d.payload("the answer to device_list", `{"devices":[]}`, index) {
		return nil, d.bad
	}
	l := &DeviceList{OriginalID: d.str(lOriginal), Next: subjects.DeviceID(d.str(lNext))}
	for element := range elements(d.array(lDevices)) {
		in := decoder{b: element, names: deviceNames[:]}
		if !in.payload("the answer to device_list", `{"devices":[{"id":"phone"}]}`, deviceField) {
			return nil, in.bad
		}
		v := in.device()
		if in.bad != nil {
			return nil, in.bad
		}
		l.Devices = append(l.Devices, v)
	}
	if d.bad != nil {
		return nil, d.bad
	}
	return l, nil
}

// device reads one element of a device_list.
func (d *decoder) device() Device {
	v := Device{
		ID: subjects.DeviceID(d.needName(vID)), Type: d.str(vType), Platform: d.str(vPlatform), Version: d.str(vVersion),
		Status: d.need(vStatus, "a string"), LastSeen: d.str(vLastSeen), Extra: d.others(ofDevice),
	}
	switch d.f[vCapabilities].kind {
	case isObject:
		v.Capabilities = d.raw(vCapabilities)
	case absent, isNull:
	default:
		d.fail(vCapabilities, "an object")
	}
	return v
}

// Unregister is the payload of a device_unregister.
type Unregister struct {
	// Forget asks to remove the device and its inbox as well.
	Forget bool
}

var unregisterNames = [...]string{"payload.forget"}

// DecodeUnregister reads the payload of a device_unregister; one that is
// absent or null asks for nothing more. The error is an [*Error] with
// BAD_MESSAGE.
func DecodeUnregister(payload []byte) (Unregister, error) {
	if payload == nil || string(payload) == "null" {
		return Unregister{}, nil
	}
	d := decoder{b: payload, names: unregisterNames[:]}
	index := func(key []byte) int { return payloadField(unregisterNames[:], key) }
	if !d.payload(TypeUnregister, `{"forget":true}`, index) {
		return Unregister{}, d.bad
	}
	u := Unregister{Forget: d.flag(0)}
	if d.bad != nil {
		return Unregister{}, d.bad
	}
	return u, nil
}

// AppendPayload appends the payload alone.
func (u *Unregister) AppendPayload(dst []byte) []byte {
	from := len(dst)
	return closeObject(appendFlag(dst, `,"forget":true`, u.Forget), from)
}
