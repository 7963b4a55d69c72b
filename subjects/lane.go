package subjects

import "fmt"

// Lane is one of the four priorities of an inbox. Its number is the
// envelope's priority, its name the last token of the inbox subject.
type Lane uint8

// The lanes, lowest first.
const (
	Low Lane = iota
	Normal
	High
	Critical
)

// Lanes is how many lanes an inbox has.
const Lanes = 4

var laneNames = [Lanes]string{"low", "normal", "high", "critical"}

// String is the lane's token: low, normal, high or critical.
func (l Lane) String() string {
	if int(l) < len(laneNames) {
		return laneNames[l]
	}
	return fmt.Sprintf("lane(%d)", uint8(l))
}

// ParseLane reads a lane token.
func ParseLane(token string) (Lane, bool) {
	for i, name := range laneNames {
		if token == name {
			return Lane(i), true
		}
	}
	return 0, false
}
