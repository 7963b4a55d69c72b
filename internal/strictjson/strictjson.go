// Package strictjson reads the JSON bodies of requests of services and
// operators: those of the HTTP API and of the coordinator's endpoints. It takes
// an integer as JSON may write it, finds members that are given twice, and says
// what is wrong in words for whoever wrote the body.
//
// Its functions are pure and safe for concurrent use.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Unmarshal is [json.Unmarshal] for which 5000, 5000.0 and 5e3 are the same
// integer, and whose errors name a member instead of a type of Go.
func Unmarshal(data []byte, into any) error {
	err := json.Unmarshal(plain(data), into)
	if mismatch, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		if mismatch.Field == "" {
			return fmt.Errorf("want a JSON object, not %s", article(mismatch.Value))
		}
		return fmt.Errorf("%q cannot be %s", mismatch.Field, article(mismatch.Value))
	}
	if syntax, is := errors.AsType[*json.SyntaxError](err); is {
		return fmt.Errorf("not valid JSON near byte %d: %w", syntax.Offset, syntax)
	}
	return err
}

// article is a kind of value as a sentence names it: "string", or a number with
// its text.
func article(value string) string {
	if value == "array" || value == "object" {
		return "an " + value
	}
	return "a " + value
}

// exact is up to where each integer is a floating-point number of its own.
const exact = 1 << 53

// plain writes each integer of valid JSON in digits alone. One that no int64
// or no floating-point number holds exactly stays as it is.
func plain(data []byte) []byte {
	if !bytes.ContainsAny(data, ".eE") || !json.Valid(data) {
		return data
	}
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		end := i + 1
		switch c := data[i]; {
		case c == '"':
			for ; data[end] != '"'; end++ {
				if data[end] == '\\' {
					end++
				}
			}
			end++
		case c == '-' || c >= '0' && c <= '9':
			for end < len(data) && bytes.IndexByte([]byte("0123456789+-.eE"), data[end]) >= 0 {
				end++
			}
			out, i = appendNumber(out, data[i:end]), end
			continue
		}
		out, i = append(out, data[i:end]...), end
	}
	return out
}

func appendNumber(dst, number []byte) []byte {
	if !bytes.ContainsAny(number, ".eE") {
		return append(dst, number...)
	}
	f, err := strconv.ParseFloat(string(number), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= exact {
		return append(dst, number...)
	}
	return strconv.AppendInt(dst, int64(f), 10)
}

// Twice finds a member that an object of valid JSON has twice: its sender and
// a proxy on the way may not mean the same one.
func Twice(data []byte) (name string, twice bool) {
	type level struct {
		names map[string]bool // nil: of an array
		value bool            // a value is next, not a name
	}
	levels := []level{{}}
	for tokens := json.NewDecoder(bytes.NewReader(data)); ; {
		token, err := tokens.Token()
		if err != nil { // the end
			return "", false
		}
		at := &levels[len(levels)-1]
		if text, is := token.(string); is && at.names != nil && !at.value {
			if at.names[text] {
				return text, true
			}
			at.names[text], at.value = true, true
			continue
		}
		at.value = false
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{names: make(map[string]bool)})
		case json.Delim('['):
			levels = append(levels, level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}
