package load

import (
	"fmt"
	"strconv"
	"time"
)

// Which way a metric is better.
const (
	Less = "less"
	More = "more"
)

// Result is what a scenario came to. As JSON it is a file that [Compare] takes.
type Result struct {
	Scenario string    `json:"scenario"`
	Begun    time.Time `json:"begun"`
	Seconds  float64   `json:"seconds"`
	Target   string    `json:"target"`
	// Program is what measured, Server what it measured, where that is known.
	Program  string    `json:"program,omitempty"`
	Server   string    `json:"server,omitempty"`
	Settings []Setting `json:"settings"`
	Metrics  []Metric  `json:"metrics"`

	Sent    uint64 `json:"sent"`
	Arrived uint64 `json:"arrived"`
	// Redelivered came once more, marked as such, after a connection was lost.
	Redelivered uint64 `json:"redelivered,omitempty"`
	// Leftover came from runs that did not end, and was acknowledged.
	Leftover uint64 `json:"leftover,omitempty"`
	// Refused are attempts to connect that the server turned away, and that were
	// made again when it said.
	Refused uint64 `json:"refused,omitempty"`
	// Failed says what went wrong. Metrics of such a run mean nothing.
	Failed string `json:"failed,omitempty"`
	// Histogram is that of the scenario's latency, in microseconds: an HDR
	// histogram, compressed, in base64.
	Histogram string `json:"histogram,omitempty"`
}

// Setting is one of the options that a scenario looks at.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Metric is one figure.
type Metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Better is Less or More; empty: neither.
	Better string `json:"better,omitempty"`
}

// String is the value with its unit.
func (m Metric) String() string {
	digits := 0
	switch v := max(m.Value, -m.Value); {
	case v != 0 && v < 1:
		digits = 3
	case v < 10:
		digits = 2
	case v < 1000:
		digits = 1
	}
	s := strconv.FormatFloat(m.Value, 'f', digits, 64)
	if m.Unit == "" {
		return strconv.FormatFloat(m.Value, 'f', -1, 64)
	}
	return s + " " + m.Unit
}

// settings are what the scenario looks at.
func (o *Options) settings(scenario string) []Setting {
	all := []Setting{{"devices", strconv.Itoa(o.Devices)}, {"bytes", strconv.Itoa(o.Bytes)}}
	add := func(name string, value any) { all = append(all, Setting{name, fmt.Sprint(value)}) }
	switch scenario {
	case "latency":
		add("rate", o.Rate)
		add("duration", o.Duration)
	case "throughput", "fanout":
		add("window", o.Window)
		add("duration", o.Duration)
	case "storm":
		add("missed", o.Missed)
		add("connecting", o.Connecting)
	case "idle":
		add("duration", o.Duration)
	case "slow":
		add("rate", o.Rate)
		add("duration", o.Duration)
		add("stopped", o.Stopped)
	}
	return all
}
