package auth_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
)

// Where a NATS server takes leaf nodes, devices and services are none: NATS
// checks less of what a leaf node says than of a client's.
func TestDevicesAndServicesAreNoLeafNodes(t *testing.T) {
	t.Parallel()
	i := install(t, func(o *server.Options) { o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", -1 })
	system, err := i.keys.IssueSystem("look")
	must(t, system, err)
	answer, err := i.dial(t, system, "look").Request("$SYS.REQ.SERVER.PING.VARZ", nil, patience)
	must(t, answer, err)
	var varz struct {
		Data struct{ Leaf struct{ Port int } }
	}
	if err := json.Unmarshal(answer.Data, &varz); err != nil || varz.Data.Leaf.Port == 0 {
		t.Fatalf("%v: %s", err, answer.Data)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(varz.Data.Leaf.Port))
	service, err := i.keys.IssueService("billing", auth.ServiceOptions{Expires: time.Hour})
	must(t, service, err)
	part, err := i.keys.IssuePart("leaf")
	must(t, part, err)
	for who, c := range map[string]struct {
		cred auth.Credential
		want bool
	}{
		"device": {issue(t, i.keys, phone, auth.DeviceOptions{}), false}, "service": {service, false}, "part": {part, true},
	} {
		if said := joins(t, address, c.cred); strings.HasPrefix(said, "-ERR") == c.want {
			t.Errorf("a %s as a leaf node is told %q", who, said)
		}
	}
}

// joins connects as a leaf node does, and returns the server's last word.
func joins(t *testing.T, address string, cred auth.Credential) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	must(t, conn, err)
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(conn, 1<<16)
	line, err := lines.ReadString('\n')
	must(t, line, err)
	var info struct{ Nonce string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	sig, err := cred.Sign([]byte(info.Nonce))
	must(t, sig, err)
	connect, err := json.Marshal(map[string]any{
		"jwt": cred.JWT, "sig": base64.RawURLEncoding.EncodeToString(sig), "name": "leaf", "server_id": "leaf", "version": nats.Version, "headers": true,
	})
	must(t, connect, err)
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", connect); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return "-ERR closed: " + err.Error()
		}
		if strings.HasPrefix(line, "-ERR") || strings.HasPrefix(line, "PONG") {
			return line
		}
	}
}
