package roster

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// filled is a roster that has read n devices, two a user, all online.
func filled(tb testing.TB, n int) *Roster {
	tb.Helper()
	r, err := New(Options{Read: new(nats.Conn), Put: func(*nats.Msg, func(uint64, error)) {}})
	if err != nil {
		tb.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0).UTC().Format(time.RFC3339Nano)
	for i := range n {
		k := subjects.Address{User: subjects.UserID(fmt.Sprintf("user-%06d", i/2)), Device: subjects.DeviceID(fmt.Sprint("device-", i))}.Key()
		r.onDevice(reader.Entry{Subject: layout.DeviceSubject(k), Seq: uint64(i + 1), Data: fmt.Appendf(nil,
			`{"type":"desktop","platform":"linux","version":"1.2.3","capabilities":{"supportsFileSync":true,"maxFileSize":1000000},"registered":%q}`, at)})
		r.onSession(reader.Entry{Subject: layout.SessionSubject(k), Seq: uint64(i + 1), Data: fmt.Appendf(nil,
			`{"session":"%022d","edge":"DbG8m3n0uLzqMTbQkq1FRR","epoch":3,"since":%q,"opened":1800000000000000000,"status":"online","lastSeen":%q,"write":%d}`, i, at, at, i)})
	}
	return r
}

// BenchmarkMemory says what an online device of another edge costs.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := filled(b, n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/device")
		runtime.KeepAlive(r)
	}
}

// BenchmarkRoute is what an edge does for each message without a named target.
func BenchmarkRoute(b *testing.B) {
	r := filled(b, 1000)
	k := subjects.Address{User: "user-000000", Device: "device-0"}.Key()
	m := Message{Type: "user_message", From: "device-0"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Route(m, r.User(k)); err != nil {
			b.Fatal(err)
		}
	}
}
