package backup

import "time"

// TakenWithin is shorter in tests.
const TakenWithin = 2 * time.Second

func init() { takenWithin = TakenWithin }
