package wire

import "math"

// parseInt reads a scanned number that is an integer, however it is written:
// 17, 17.0 and 1.7e1 are the same. fits is false for one beyond an int64, and
// n is then the nearest that is.
func parseInt(b []byte) (n int64, fits, ok bool) {
	if len(b) == 0 {
		return 0, false, false
	}
	digits, negative := b, b[0] == '-'
	if negative {
		digits = b[1:]
	}
	u, fits, ok := parseDigits(digits)
	if !ok {
		u, fits, ok = parseDecimal(digits)
	}
	switch {
	case !ok:
		return 0, false, false
	case negative:
		return -int64(u), fits, true //nolint:gosec // fits says whether it does
	}
	return int64(u), fits, true //nolint:gosec // fits says whether it does
}

// parseDigits reads what is nearly always there, up to 18 digits; ok is false
// for anything else.
func parseDigits(b []byte) (u uint64, fits, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false, false
	}
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false, false
		}
		u = u*10 + uint64(c)
	}
	return u, true, true
}

// parseDecimal reads an unsigned number with a fraction, an exponent, or many
// digits.
func parseDecimal(b []byte) (u uint64, fits, ok bool) {
	digits := make([]byte, 0, min(len(b), 32)) // without leading zeros
	power, seen, i := 0, false, 0
	for ; i < len(b) && b[i] != 'e' && b[i] != 'E'; i++ {
		c := b[i]
		if c == '.' {
			seen = true
			continue
		}
		if c < '0' || c > '9' {
			return 0, false, false
		}
		if seen {
			power--
		}
		if c != '0' || len(digits) > 0 {
			digits = append(digits, c)
		}
	}
	if i < len(b) {
		power += exponent(b[i+1:])
	}
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
		power++
	}
	switch {
	case len(digits) == 0:
		return 0, true, true
	case power < 0:
		return 0, false, false
	case len(digits)+power > 19:
		return math.MaxInt64, false, true
	}
	for _, c := range digits {
		u = u*10 + uint64(c-'0')
	}
	for range power {
		u *= 10 // 19 digits cannot overflow it
	}
	if u > math.MaxInt64 {
		return math.MaxInt64, false, true
	}
	return u, true, true
}

// exponent reads what stands behind the e of a scanned number. One that is
// past any number of digits a frame can hold stays there.
func exponent(b []byte) int {
	const far = 1 << 40
	negative := b[0] == '-'
	if negative || b[0] == '+' {
		b = b[1:]
	}
	e := 0
	for _, c := range b {
		e = min(e*10+int(c-'0'), far)
	}
	if negative {
		return -e
	}
	return e
}

// integer is an integer field from low to high; 0 when absent.
func (d *decoder) integer(n int, low, high int64, want string) int64 {
	v := d.f[n]
	if !v.given() {
		return 0
	}
	i, fits, ok := parseInt(d.raw(n))
	if v.kind != isNumber || !ok || !fits || i < low || i > high {
		d.fail(n, want)
		return 0
	}
	return i
}

// bounded is an integer field of which one out of bounds is the nearest bound,
// however large; 0 when absent.
func (d *decoder) bounded(n int, low, high int64, want string) int64 {
	v := d.f[n]
	if !v.given() {
		return 0
	}
	i, _, ok := parseInt(d.raw(n))
	if v.kind != isNumber || !ok {
		d.fail(n, want)
		return 0
	}
	return min(max(i, low), high)
}

// atMost is a positive integer field of which one above high is that; 0 when
// absent.
func (d *decoder) atMost(n int, high int64, want string) int64 {
	i := d.bounded(n, math.MinInt64, high, want)
	if d.f[n].given() && i < 1 {
		d.fail(n, want)
		return 0
	}
	return i
}
