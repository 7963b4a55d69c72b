package node

import (
	"context"
	"log/slog"

	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/internal/tracing"
)

// named are options of tracing with what the process is.
func named(o tracing.Options, kind, name, version string, log *slog.Logger) tracing.Options {
	o.Kind, o.Name, o.Version, o.Logger = kind, name, version, log
	return o
}

// startTracer makes the tracer of a process, nil if nothing is recorded. It ends
// after all that is started later.
func startTracer(o tracing.Options, end *stops.Stack) (*tracing.Tracer, error) {
	t, err := tracing.New(context.Background(), o)
	if err != nil || t == nil {
		return nil, err
	}
	end.Add(func(ctx context.Context) error {
		if err := t.Stop(ctx); err != nil && o.Logger != nil { // it takes nothing from devices
			o.Logger.Warn("the last spans were not sent", "err", err)
		}
		return nil
	})
	return t, nil
}

// tracerOf is a tracer for the parts, which have nil without one.
func tracerOf(t *tracing.Tracer) trace.Tracer {
	if t == nil {
		return nil
	}
	return t
}
