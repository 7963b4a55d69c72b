package e2e_test

import (
	"testing"
	"time"
)

func TestProtocol_10_RevokingEndsEveryCredentialIssuedUntilThen(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	used, unused := s.token(t, u+"/d"), s.token(t, u+"/d")
	creds := must(t, "creds", "device", u+"/d", "--data", s.data)
	d := connect(t, s, u+"/d", object{"authToken": used})
	neighbour := connect(t, s, u+"/neighbour", nil)
	closed := dropped(t, s, creds)
	must(t, "devices", "revoke", u+"/d", "--data", s.data, "--server", s.NATS)
	d.wantError("DEVICE_REVOKED")
	d.wantClose(4003)
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the connection to NATS stands")
	}
	refused := func() {
		t.Helper()
		for _, token := range []string{used, unused} {
			d := greeted(t, s, dialing{})
			d.send(object{"id": "r", "type": "device_register", "payload": object{"authToken": token}})
			d.wantError("DEVICE_REVOKED")
			d.wantClose(4003)
		}
		s.keepsOut(t, "plain NATS", credsOption(t, creds))
	}
	refused()
	fresh := s.token(t, u+"/d")
	connect(t, s, u+"/d", object{"authToken": fresh}).beat()
	neighbour.beat()
	s.restart(t)
	refused()
	connect(t, s, u+"/d", object{"authToken": fresh}).beat()
}
