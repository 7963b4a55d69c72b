package auth

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/subjects"
)

// tagType begins the tag that carries the device type, as the hex of its
// bytes: tags are lower-cased by tools, and a type may be any text.
const tagType = "rccs-type:"

func typeTag(deviceType string) string { return tagType + hex.EncodeToString([]byte(deviceType)) }

// deviceType reads the type back; "" means that the credential does not say.
// One that says it badly, or twice, is refused: the device could then say what
// it likes.
func deviceType(tags jwt.TagList) (string, error) {
	found := ""
	for _, tag := range tags {
		text, ok := strings.CutPrefix(strings.ToLower(tag), tagType)
		if !ok {
			continue
		}
		raw, err := hex.DecodeString(text)
		if err != nil {
			return "", fmt.Errorf("%w: its tag %q is not a device type in hex", ErrMalformed, tag)
		}
		if err := subjects.CheckName("type", string(raw)); err != nil {
			return "", fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if found != "" && found != string(raw) {
			return "", fmt.Errorf("%w: it has two device types", ErrMalformed)
		}
		found = string(raw)
	}
	return found, nil
}
