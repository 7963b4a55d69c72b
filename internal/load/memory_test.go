package load_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
)

// The load of BenchmarkGivenBack, and its limit: what is held beside what a forced
// collection leaves, once givenBackWithin has passed.
const (
	givenBackDevices = 5000
	givenBackWithin  = 30 * time.Second
	limitGivenBack   = 1.15
)

// BenchmarkGivenBack: what devices needed to register is given back to the system
// without anybody asking for it.
func BenchmarkGivenBack(b *testing.B) {
	for b.Loop() {
		server, data := serve(b)
		held := func() float64 {
			bytes, err := server.Resident()
			if err != nil {
				b.Fatal(err)
			}
			return float64(bytes)
		}
		before, err := server.SteadyMemory(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		each := func(bytes float64) float64 { return (bytes - float64(before)) / givenBackDevices / 1024 }
		connect(b, server, data, load.Options{Devices: givenBackDevices})
		first, least := held(), 0.0
		poll := time.NewTicker(time.Second)
		for began := time.Now(); time.Since(began) < givenBackWithin; <-poll.C {
			if now := held(); least == 0 || now < least {
				least = now
				b.Logf("%.1f KiB a connection after %.0f s", each(now), time.Since(began).Seconds())
			}
		}
		poll.Stop()
		forced, err := server.SteadyMemory(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(each(first), "at-once-KiB/conn")
		b.ReportMetric(each(least), "KiB/conn")
		b.ReportMetric(each(float64(forced)), "forced-KiB/conn")
		judge(b, "memory of a connection once it is given back, over what a forced collection leaves", each(least)/each(float64(forced)), limitGivenBack, "times")
	}
	b.ReportMetric(0, "ns/op")
}
