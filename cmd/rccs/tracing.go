package main

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/tracing"
)

// otlpFlags say where the way of single messages is recorded.
type otlpFlags struct {
	endpoint, protocol string
	share              portion
}

func (f *otlpFlags) add(flags *pflag.FlagSet) {
	checkedVar(flags, &f.endpoint, "otlp-endpoint", "", "`URL` of an OpenTelemetry collector, such as http://127.0.0.1:4317, that is told the path of messages; empty: none", checkCollector)
	checkedVar(flags, &f.protocol, "otlp-protocol", tracing.GRPC, "`protocol` of the collector: grpc, or http", checkOTLP)
	f.share = 0.01
	flags.Var(&f.share, "trace-share", "which `share` of the messages is recorded, 0 to 1")
}

func (f *otlpFlags) options() tracing.Options {
	return tracing.Options{Endpoint: f.endpoint, Protocol: f.protocol, Share: float64(f.share)}
}

func checkCollector(s string) error {
	return (&tracing.Options{Endpoint: s}).Validate()
}

func checkOTLP(s string) error {
	if s != tracing.GRPC && s != tracing.HTTP {
		return errors.New("want grpc or http")
	}
	return nil
}

// portion is a flag from 0 to 1.
type portion float64

// String implements pflag.Value.
func (p *portion) String() string { return strconv.FormatFloat(float64(*p), 'g', -1, 64) }

// Type implements pflag.Value.
func (*portion) Type() string { return "number" }

// Set implements pflag.Value.
func (p *portion) Set(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1) { // also what is no number
		return errors.New("want a number from 0 to 1")
	}
	*p = portion(f)
	return nil
}
