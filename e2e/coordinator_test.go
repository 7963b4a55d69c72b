package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
)

// plain is a device on plain NATS, with its own credential.
type plain struct {
	t    *testing.T
	nc   *nats.Conn
	base string // of its endpoints
}

func (s *server) plain(t *testing.T, u, name string) *plain {
	t.Helper()
	prefix := "_INBOX." + token(u) + "." + token(name)
	nc := natstest.Dial(t, s.NATS, credsOption(t, must(t, "creds", "device", u+"/"+name, "--data", s.data)),
		nats.CustomInboxPrefix(prefix), nats.ErrorHandler(nobody))
	return &plain{t: t, nc: nc, base: "rccs.coordinator.device." + token(u) + "." + token(name) + "."}
}

func (d *plain) call(endpoint string, request, into any) {
	d.t.Helper()
	if err := d.try(endpoint, request, into); err != nil {
		d.t.Fatal(err)
	}
}

func (d *plain) try(endpoint string, request, into any) error {
	d.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := d.nc.Request(d.base+endpoint, body, patience)
	if err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		return fmt.Errorf("%s: %s", endpoint, text)
	}
	decode(d.t, m.Data, into)
	return nil
}

// fetch asks until something waits for the device.
func (d *plain) fetch(into any) {
	d.t.Helper()
	eventually(d.t, func() error {
		var came json.RawMessage
		var all []any
		d.call("fetch", object{"wait": 20_000}, &came)
		if decode(d.t, came, &all); len(all) == 0 {
			return errLate
		}
		decode(d.t, came, into)
		return nil
	})
}

func TestProtocol_9_ADeviceOnPlainNATS(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	desk := connect(t, s, u+"/desk", nil)
	d := s.plain(t, u, "my.sensor")
	var accepted answer
	eventually(t, func() error { // the coordinator knows the desk a moment after its edge
		return d.try("send", object{"id": "m", "type": "note", "payload": object{"n": 1}, "requiresAck": true}, &accepted)
	})
	if len(accepted.Recipients) != 1 || accepted.Recipients[0].DeviceID != "desk" || accepted.Status != "accepted" {
		t.Errorf("answered with %+v", accepted)
	}
	e := desk.message()
	if e.FromDeviceID != "my.sensor" || e.ID != "m" || string(e.Payload) != `{"n":1}` {
		t.Errorf("got %s", e.raw)
	}
	desk.ack(e.Seq)
	var all []struct {
		Type    string
		Seq     uint64
		Payload answer
	}
	d.fetch(&all)
	if len(all) != 1 || all[0].Type != "ack" || all[0].Payload.Status != "delivered" || all[0].Payload.OriginalMessageID != "m" {
		t.Fatalf("fetched %+v", all)
	}
	var told struct{ Acknowledged int }
	if d.call("ack", object{"seq": all[0].Seq}, &told); told.Acknowledged != 1 {
		t.Errorf("acknowledged %d", told.Acknowledged)
	}
	service := s.service(t, "ups")
	up, err := service.nc.SubscribeSync("rccs.up." + token(u) + ".>")
	if err != nil {
		t.Fatal(err)
	}
	if err := service.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	d.call("up", object{"id": "u", "type": "reading", "payload": 21}, &accepted)
	if m, err := up.NextMsg(patience); err != nil || string(m.Data) != "21" || m.Header.Get("Rccs-From") != "my.sensor" {
		t.Errorf("services got %v, %v", m, err)
	}
}

// NATS checks only that a reply subject is no request to JetStream. Of all
// others, what RCCS answers there it would publish with its own permissions.
func TestProtocol_9_NoReplySubjectIsWrittenThatIsNotTheRequesters(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	victim := connect(t, s, u+"/victim", nil)
	victim.leave()
	service := s.service(t, "nosy")
	service.publish(inbox(u, "victim", "normal"), `"kept"`)
	d := s.plain(t, u, "d")
	foreign := []string{"$JS.API.STREAM.PURGE.RCCS_INBOX", inbox(u, "victim", "normal"), "rccs.cursor." + token(u) + ".victim", "$KV.RCCS_DEVICES." + token(u) + ".victim"}
	for _, reply := range foreign {
		for _, endpoint := range []string{"fetch", "ack", "send", "up", "nonsense"} {
			if err := d.nc.PublishRequest(d.base+endpoint, reply, []byte(`{"id":"m","type":"note","payload":1,"toDeviceId":"victim"}`)); err != nil {
				t.Fatal(err)
			}
		}
		if reply == inbox(u, "victim", "normal") {
			continue // where a service may publish anyway
		}
		for _, subject := range []string{
			"$SRV.PING", "$SRV.INFO", "$SRV.STATS", "rccs.coordinator.status", "rccs.coordinator.devices", "rccs.coordinator.forget",
			"rccs.rpc." + token(u) + ".victim.m", "rccs.rpc." + token(u) + ".d.m",
		} {
			if err := service.nc.PublishRequest(subject, reply, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := service.nc.FlushTimeout(patience); err != nil { // before the device is there
		t.Fatal(err)
	}
	// While it is connected, its edge answers requests to it.
	victim = connect(t, s, u+"/victim", nil)
	for _, reply := range foreign {
		if err := service.nc.PublishRequest("rccs.rpc."+token(u)+".victim.m", reply, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := service.nc.Request("rccs.coordinator.status", nil, patience); err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	d.call("fetch", object{}, &all)
	victim.wantMessage(`"kept"`)
	// A service may ask: its reply subject is not the one that the answer goes
	// to. NATS itself refused the request whose reply is one to JetStream.
	for range foreign[1:] {
		if e := victim.pick(false); e.Type != "request" {
			t.Errorf("got %s", e.raw)
		}
	}
	victim.silent(quiet)
	victim.leave()
	var missed []json.RawMessage
	decode(t, []byte(must(t, "missed", u+"/victim", "--json", "--data", s.data, "--server", s.NATS)), &missed)
	if len(missed) != 1 {
		t.Errorf("the inbox holds %s", missed)
	}
}

// What `nats micro ls`, `info` and `stats` ask and show, with a service's
// credential. The command itself is asked where `make nats` has installed it.
func TestProtocol_9_TheCoordinatorIsAMicroService(t *testing.T) {
	t.Parallel()
	s := use(t)
	service := s.service(t, "watcher")
	var shown struct {
		Name, Version, Description string
		Endpoints                  []struct{ Name, Subject string }
	}
	for _, verb := range []string{"PING", "STATS", "INFO"} {
		m, err := service.nc.Request("$SRV."+verb+".rccs-coordinator", nil, patience)
		if err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		if decode(t, m.Data, &shown); shown.Name != "rccs-coordinator" || shown.Version == "" {
			t.Errorf("%s is answered with %s", verb, m.Data)
		}
	}
	if len(shown.Endpoints) < 8 || shown.Description == "" {
		t.Errorf("INFO is answered with %+v", shown)
	}
	command, err := exec.LookPath("../bin/nats")
	if err != nil {
		return
	}
	creds := filepath.Join(t.TempDir(), "service.creds")
	if err := os.WriteFile(creds, []byte(must(t, "creds", "service", "watcher", "--data", s.data)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls"}, {"info", "rccs-coordinator"}, {"stats", "rccs-coordinator"}} {
		all := append([]string{"--server", s.NATS, "--creds", creds, "micro"}, args...)
		eventually(t, func() error { // it does not wait long for an answer
			out, err := exec.CommandContext(t.Context(), command, all...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "rccs-coordinator") {
				return fmt.Errorf("nats micro %v: %w\n%s", args, err, out)
			}
			return nil
		})
	}
}
