package load

import (
	"fmt"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is counted in microseconds, to three digits, up to ten minutes.
const (
	meterUnit   = time.Microsecond
	meterMost   = int64(10 * time.Minute / meterUnit)
	meterDigits = 3
	meterShards = 4 // so that devices seldom wait for each other
)

// meter counts latencies.
type meter struct{ shards [meterShards]meterShard }

type meterShard struct {
	mu sync.Mutex
	h  *hdr.Histogram
}

func newMeter() *meter {
	m := new(meter)
	for i := range m.shards {
		m.shards[i].h = hdr.New(1, meterMost, meterDigits)
	}
	return m
}

// record counts one. Its key spreads receivers over the shards.
func (m *meter) record(d time.Duration, key uint64) {
	s := &m.shards[key%meterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.h.RecordValue(min(max(int64(d/meterUnit), 1), meterMost)) // in its range, so it cannot fail
}

// sum is all that was counted.
func (m *meter) sum() *hdr.Histogram {
	all := hdr.New(1, meterMost, meterDigits)
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		all.Merge(s.h)
		s.mu.Unlock()
	}
	return all
}

// p99 of all; 0 when there are none.
func (m *meter) p99() time.Duration {
	return time.Duration(m.sum().ValueAtQuantile(99)) * meterUnit
}

// metrics are the usual quantiles, in milliseconds, and none when nothing was
// counted.
func (m *meter) metrics(what string) []Metric {
	h := m.sum()
	if h.TotalCount() == 0 {
		return nil
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return []Metric{
		{Name: what + " p50", Value: ms(h.ValueAtQuantile(50)), Unit: "ms", Better: Less},
		{Name: what + " p90", Value: ms(h.ValueAtQuantile(90)), Unit: "ms", Better: Less},
		{Name: what + " p99", Value: ms(h.ValueAtQuantile(99)), Unit: "ms", Better: Less},
		{Name: what + " p99.9", Value: ms(h.ValueAtQuantile(99.9)), Unit: "ms", Better: Less},
		{Name: what + " max", Value: ms(h.Max()), Unit: "ms", Better: Less},
	}
}

// encoded is the whole histogram in the format that HDR histograms share,
// compressed, in base64; the unit is a microsecond.
func (m *meter) encoded() (string, error) {
	data, err := m.sum().Encode(hdr.V2CompressedEncodingCookieBase)
	if err != nil {
		return "", fmt.Errorf("load: histogram: %w", err)
	}
	return string(data), nil
}
