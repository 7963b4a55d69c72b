package api

import "testing"

// What a client gives quality 0 it does not get, and the highest quality decides.
func TestFormOfAnAnswerIsTheOneTheClientPrefers(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"":                         "",
		"*/*":                      "",
		"application/json":         "",
		"application/x-ndjson":     ndjson,
		"Application/X-NDJSON":     ndjson,
		"application/x-ndjson;q=0": "",
		"application/x-ndjson; q=0.000, text/event-stream": eventStream,
		"application/x-ndjson;q=0.4,text/event-stream;q=1": eventStream,
		"text/event-stream, application/x-ndjson":          eventStream,
		"application/x-ndjson;q=0.5, application/json":     "",
		"application/json, application/x-ndjson":           ndjson,
		"application/json;q=0.1, application/x-ndjson;q=1": ndjson,
		"application/x-ndjson;charset=utf-8;q=0":           "",
		"application/x-ndjson;q=NaN":                       "",
		"application/x-ndjson;q=much, text/event-stream":   eventStream,
		"application/x-ndjson;q=-1":                        "",
		";;;, application/x-ndjson":                        ndjson,
	} {
		if got := preferred(accept); got != want {
			t.Errorf("Accept: %s: %q, want %q", accept, got, want)
		}
	}
}
