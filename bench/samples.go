package bench

import (
	"slices"
	"time"
)

// Samples are durations in nanoseconds, the shortest first. All are kept, so
// quantiles are exact.
type Samples []int64

func (s Samples) sorted() Samples {
	slices.Sort(s)
	return s
}

// Quantile is the duration that a share q of the samples, from 0 to 1, does not
// exceed. It is 0 when there are none.
func (s Samples) Quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	i := int(q*float64(len(s))+0.999999) - 1
	return time.Duration(s[min(max(i, 0), len(s)-1)])
}

// Max is the longest duration, in any order of the samples.
func (s Samples) Max() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return time.Duration(slices.Max(s))
}
