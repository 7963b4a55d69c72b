package ops

import (
	"cmp"
	"slices"
	"time"
)

// LifeStep is one in the life of a message, as the HTTP API tells it.
type LifeStep struct {
	At time.Time `json:"at"`
	// What is delayed, routed, stored, sent, acknowledged, delivered, expired,
	// replaced, rejected, undeliverable, toServices, published, online or
	// offline.
	What     string `json:"what"`
	DeviceID string `json:"deviceId,omitempty"`
	Seq      uint64 `json:"seq,omitempty"`
	Edge     string `json:"edge,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Life is the trace as a list of what happened. That a message was sent or
// acknowledged is known from its device's cursor, which has no times: such a
// step, where nothing says more, has the time at which the cursor moved last.
func (t *Trace) Life() []LifeStep {
	steps := make([]LifeStep, 0, len(t.Steps)+len(t.Copies))
	for _, s := range t.Steps {
		steps = append(steps, LifeStep{At: s.At, What: s.what(), DeviceID: s.device(), Seq: s.Seq, Detail: s.Detail})
	}
	for _, c := range t.Copies {
		i := slices.IndexFunc(steps, func(s LifeStep) bool { return s.What == "stored" && s.Seq == c.Seq })
		if i >= 0 {
			steps[i].Edge = c.Edge
		}
		if c.State == StateWaiting || c.Outcome != "" || c.cursorAt.IsZero() {
			continue
		}
		at := c.cursorAt
		if at.Before(c.Stored) {
			at = c.Stored
		}
		steps = append(steps, LifeStep{At: at, What: c.State, DeviceID: c.Device, Seq: c.Seq, Edge: c.Edge})
	}
	slices.SortStableFunc(steps, func(a, b LifeStep) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Seq, b.Seq)) })
	return steps
}

func (s *Step) what() string {
	switch s.Step {
	case StepLater:
		return "delayed"
	case StepRoute:
		return "routed"
	case StepServices:
		return "toServices"
	case StepTopic:
		return "published"
	case StepOutcome, StepPresence:
		return s.kind
	}
	return s.Step
}

// device is the one that a step is about.
func (s *Step) device() string {
	if s.Step == StepOutcome && s.of != "" {
		return s.of
	}
	return s.Device
}
