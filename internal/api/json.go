package api

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// unmarshal reads a body. A member that is given twice is refused: who sent it
// and who looked at it on the way may not mean the same one.
func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	if _, first := v.(*any); !first { // the library reads each body twice
		return nil
	}
	if name, twice := givenTwice(data); twice {
		return fmt.Errorf("%q is given more than once", name)
	}
	return nil
}

// givenTwice finds a member that an object of valid JSON has twice.
func givenTwice(data []byte) (name string, twice bool) {
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
