package headers_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
)

// BenchmarkRequester is what each message of a service costs, whose header holds its
// credential.
func BenchmarkRequester(b *testing.B) {
	m := &nats.Msg{Subject: "rccs.route.alice.any.normal", Data: []byte("{}"), Header: nats.Header{
		"Nats-Msg-Id": {"job-7"}, layout.HeaderRequester: {ofService(0)},
	}}
	b.ReportAllocs()
	for b.Loop() {
		if headers.Requester(m) != "U0" {
			b.Fatal("not read")
		}
	}
}

// ofService is what NATS says of the service n, as long as it is in fact.
func ofService(n int) string {
	key := "U" + strconv.Itoa(n)
	return `{"start":"2026-11-30T12:00:00.123456789Z","host":"10.0.0.7","id":77,"acc":"ACDE","svc":"ASVC","user":"` + key + `","name":"billing","lang":"go",` +
		`"ver":"1.55.0","rtt":412345,"server":"rccs","cluster":"rccs","jwt":"` + strings.Repeat("eyJ0eXAiOiJKV1QifQ", 270) + `","issuer_key":"ACDE","kind":"Client","client_type":"nats"}`
}
