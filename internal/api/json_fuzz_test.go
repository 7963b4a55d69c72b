package api

import (
	"bytes"
	"encoding/json"
	"testing"
)

// A body that is taken has no member twice at any depth: written again, it says
// the same and is as long.
func FuzzUnmarshal(f *testing.F) {
	for _, body := range []string{
		`{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `[{"a":1},{"a":1}]`, `{"a":"a","b":["a","a"]}`, `{"a":1,"\u0061":2}`, `{}`, `[]`, `"a"`, `{"a":{"a":{"a":1}}}`, `{"A":1,"a":2}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v any
		if unmarshal(body, &v) != nil {
			return
		}
		if got, want := names(v), counted(body); got != want {
			t.Errorf("%q is taken with %d names of %d", body, got, want)
		}
	})
}

// names is how many names the objects of a value have.
func names(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, one := range v {
			n += 1 + names(one)
		}
	case []any:
		for _, one := range v {
			n += names(one)
		}
	}
	return n
}

// counted is how many names the objects of valid JSON have, by its colons.
func counted(body []byte) (n int) {
	var compact bytes.Buffer
	if json.Compact(&compact, body) != nil {
		return -1
	}
	inString, escaped := false, false
	for _, c := range compact.Bytes() {
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case c == ':' && !inString:
			n++
		}
	}
	return n
}
