package roster

import "time"

// stamp is a time in Unix nanoseconds; 0 is none. In JSON it is a time as RFC
// 3339 has it. It is a third as large as a time.Time, and each device has several.
type stamp int64

func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixNano())
}

// time returns the time in UTC.
func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(s)).UTC()
}

// MarshalJSON implements [encoding/json.Marshaler].
func (s stamp) MarshalJSON() ([]byte, error) { return s.time().MarshalJSON() }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (s *stamp) UnmarshalJSON(data []byte) error {
	var t time.Time
	if err := t.UnmarshalJSON(data); err != nil {
		return err
	}
	*s = stampOf(t)
	return nil
}
