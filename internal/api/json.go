package api

import (
	"fmt"

	"github.com/rccs-io/rccs/internal/strictjson"
)

// unmarshal reads a body. A member that is given twice is refused: who sent it
// and who looked at it on the way may not mean the same one.
func unmarshal(data []byte, v any) error {
	if err := strictjson.Unmarshal(data, v); err != nil {
		return err
	}
	if _, first := v.(*any); !first { // the library reads each body twice
		return nil
	}
	if name, twice := strictjson.Twice(data); twice {
		return fmt.Errorf("%q is given more than once", name)
	}
	return nil
}
