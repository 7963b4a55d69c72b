package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// Protocols by which spans are sent.
const (
	GRPC = "grpc"
	HTTP = "http"
)

// Options say where spans go, and of how many messages.
type Options struct {
	// Endpoint is the collector's URL: http://HOST:4317, or 4318 for [HTTP].
	// Empty: nothing is recorded. https is TLS.
	Endpoint string
	// Protocol is [GRPC] or [HTTP]. Default GRPC.
	Protocol string
	// Share of the messages that are recorded, 0 to 1.
	Share float64
	// Delay is how long spans wait for others to be sent with. Default 5 s.
	Delay time.Duration
	// What this process is: its kind, such as "rccs edge", its name, and the
	// program's version.
	Kind, Name, Version string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Validate returns what is wrong with the options.
func (o *Options) Validate() error {
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("tracing: the collector's address %q: want http://HOST:PORT or https://HOST:PORT", o.Endpoint)
	case o.Protocol != "" && o.Protocol != GRPC && o.Protocol != HTTP:
		return fmt.Errorf("tracing: protocol %q: want grpc or http", o.Protocol)
	case o.Share < 0 || o.Share > 1:
		return errors.New("tracing: the share of recorded messages: want a number from 0 to 1")
	}
	return nil
}

// Tracer implements [trace.Tracer].
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
}

// stopTimeout bounds how long what waits is sent at the end: a collector that is
// away must not keep a process.
const stopTimeout = time.Second

// New makes a tracer, or none, nil, without an endpoint or a share. It does not
// wait for the collector, which may come later.
func New(ctx context.Context, opts Options) (*Tracer, error) {
	if err := opts.Validate(); err != nil || opts.Endpoint == "" || opts.Share == 0 {
		return nil, err
	}
	exporter, err := newExporter(ctx, &opts)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if opts.Logger != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { opts.Logger.Warn("spans were not sent", "err", err) }))
	}
	share := sdk.TraceIDRatioBased(opts.Share)
	var batching []sdk.BatchSpanProcessorOption
	if opts.Delay > 0 {
		batching = append(batching, sdk.WithBatchTimeout(opts.Delay))
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, batching...),
		sdk.WithSampler(sdk.ParentBased(share, sdk.WithRemoteParentSampled(share))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", opts.Kind), attribute.String("service.instance.id", opts.Name),
			attribute.String("service.version", opts.Version),
		)),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/rccs-io/rccs")}, nil
}

// newExporter connects when there is something to send. Headers, such as a
// token, and certificates are taken from OpenTelemetry's own variables.
func newExporter(ctx context.Context, opts *Options) (sdk.SpanExporter, error) {
	if opts.Protocol == HTTP {
		return otlptrace.New(ctx, otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(opts.Endpoint+"/v1/traces")))
	}
	return otlptrace.New(ctx, otlptracegrpc.NewClient(otlptracegrpc.WithEndpointURL(opts.Endpoint)))
}

// Stop sends what waits, for a second at most.
func (t *Tracer) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}
